"""A step's program, traced and lowered while the weights are drawn.

Both take seconds for a large network, and neither needs the other: tracing is Python, drawing is NumPy, which lets
other threads run meanwhile.
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
def lowered_ahead(step: TrainStep, state: TrainState, config: Resolved) -> Iterator[None]:
    """Traces and lowers a step in another thread, for what a run will call it with; at the end, that is done.

    JAX keeps both for the call. Compiling, which takes longer, is left to it: whoever leaves early, for a wrong file or
    Ctrl-C, waits for the thread.

    Args:
        step: what ``make_train_step`` gave.
        state: shapes and dtypes of the state, see ``abstract_state``.
        config: of the run.
    """
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated()), state)
    batch = [jax.ShapeDtypeStruct((*batch_shape(config), channels), "float32", sharding=split()) for channels in (3, 1)]

    def lower() -> None:
        with suppress(Exception):  # the call meets it again, where it is told
            step.lower(state, *batch)

    thread = Thread(target=lower, name="lowered_ahead")
    thread.start()
    try:
        yield
    finally:
        thread.join()
