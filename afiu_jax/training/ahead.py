"""A step's program, compiled while the weights are drawn.

Both take seconds for a large network, and neither needs the other: the compiler, or the reading of what it made for an
earlier run, and NumPy, which draws, let other threads run meanwhile.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread

import jax

from afiu_jax.errors import COMPILING
from afiu_jax.training.config import Resolved, batch_shape
from afiu_jax.training.devices import replicated, split
from afiu_jax.training.state import TrainState
from afiu_jax.training.step import TrainStep
from afiu_jax.training.traces import Trace


@dataclass
class Ahead:
    """What is compiled in the meantime.

    Attributes:
        step: the one to call, None until it is made.
    """

    step: TrainStep | None = None


@contextmanager
def compiled_ahead(
    make_step: Callable[[], TrainStep], state: TrainState, config: Resolved, trace: Trace | None = None
) -> Iterator[Ahead]:
    """Compiles a step in another thread, for what a run will call it with; at the end, that is done.

    JAX keeps the program for the call. Whoever leaves early, for an error or Ctrl-C, does not wait for the compiler,
    half a minute if nothing is in the cache; a process that then ends does, unless it does so by ``errors.leave``.

    Args:
        make_step: gives the step, see ``make_train_step``. It is called in that thread, if need be.
        state: shapes and dtypes of the state, see ``abstract_state``.
        config: of the run.
        trace: where the step may lie traced already, or is kept when it is.

    Raises:
        Exception: what tracing or compiling raised, at the end.
    """
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated()), state)
    batch = [jax.ShapeDtypeStruct((*batch_shape(config), channels), "float32", sharding=split()) for channels in (3, 1)]
    ahead, errors = Ahead(), []

    def compile_step() -> None:
        try:
            ahead.step = trace.use(make_step, state, *batch) if trace else make_step()
            ahead.step.lower(state, *batch).compile()
        except Exception as error:
            errors.append(error)

    thread = Thread(target=compile_step, name=COMPILING)
    thread.start()
    yield ahead
    thread.join()
    if errors:
        raise errors[0]
