"""What functions and their gradients give, all in one program: else every operation is compiled as one of its own."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def values_and_gradients(
    ways: Sequence[Callable], operands: Sequence[Array], above: Array | None = None
) -> list[tuple]:
    """The value of each way, and the gradients for all operands.

    Args:
        ways: functions of the operands, whose values have one shape.
        operands: arrays.
        above: the gradient of a value; None: random numbers.
    """
    if above is None:
        value = jax.eval_shape(ways[0], *operands)
        above = jnp.asarray(np.random.default_rng(1).standard_normal(value.shape), value.dtype)

    # LLVM's passes take most of the time to compile, and change nothing here.
    @jax.jit
    def compute(operands, above):
        derived = [jax.vjp(way, *operands) for way in ways]
        return [(value, *derive(above)) for value, derive in derived]

    return compute.lower(tuple(operands), above).compile({"xla_backend_optimization_level": 0})(tuple(operands), above)
