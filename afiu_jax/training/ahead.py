"""A step's program, compiled while the weights are drawn.

Both take seconds for a large network, and neither needs the other: the compiler, or the reading of what it made for an
earlier run, and NumPy, which draws, let other threads run meanwhile.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import jax

from afiu_jax.training.config import Resolved, batch_shape
from afiu_jax.training.devices import replicated, split
from afiu_jax.training.state import TrainState
from afiu_jax.training.step import TrainStep


@contextmanager
def compiled_ahead(step: TrainStep, state: TrainState, config: Resolved) -> Iterator[None]:
    """Compiles a step in another thread, for what a run will call it with; at the end, that is done.

    JAX keeps the program for the call. Ctrl-C does not wait for the compiler. Any other error does, half a minute if
    nothing is in the cache, since a process that ends as usual meanwhile is aborted; so find errors of the user before.

    Args:
        step: what ``make_train_step`` gave.
        state: shapes and dtypes of the state, see ``abstract_state``.
        config: of the run.
    """
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated()), state)
    batch = [jax.ShapeDtypeStruct((*batch_shape(config), channels), "float32", sharding=split()) for channels in (3, 1)]

    def compile_step() -> None:
        with suppress(Exception):  # the call meets it again, where it is told
            step.lower(state, *batch).compile()

    thread = Thread(target=compile_step, name="compiled_ahead", daemon=True)
    thread.start()
    try:
        yield
    except Exception:
        thread.join()
        raise
    thread.join()
