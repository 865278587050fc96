"""Memory of the devices that is not enough, said in one line with what takes less of it."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax

from afiu_jax.errors import UserError
from afiu_jax.training.config import batch_shape
from afiu_jax.training.schema import Resolved

_FULL = ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY", "out of memory", "DNN library initialization failed")
"""What XLA, CUDA, NCCL and cuDNN say, where what JAX took or what it left is not enough."""


@contextmanager
def naming_full_memory(config: Resolved) -> Iterator[None]:
    """Turns what XLA raises where memory lacks into one line.

    Args:
        config: of the run.

    Raises:
        UserError: a device had not enough memory.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not any(words in str(error) for words in _FULL):
            raise
        size, height, width = batch_shape(config)
        raise UserError(
            f"{jax.devices()[0].device_kind} has not enough memory for {config['model']['name']} with batches of "
            f"{size} images of {width}x{height}, or of eval.batch_size={config['eval']['batch_size']}: "
            "train.remat=True, train.layouts=True and a smaller eval.batch_size take less, also when a run goes on; "
            "a new one may have smaller batches, train.accumulate=2 where every device can halve its own, or "
            "model.options.dtype=bfloat16; on a GPU JAX takes three quarters of its memory, or what "
            "XLA_CLIENT_MEM_FRACTION=.9 says, and CUDA's libraries need some of the rest (a DNN library that does not "
            "start may also be another than JAX's: unset LD_LIBRARY_PATH)"
        ) from error
