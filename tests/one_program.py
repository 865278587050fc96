"""Functions computed as one program each, without LLVM's passes: else every operation is compiled as one of its own."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

QUICKLY_COMPILED = {"xla_backend_optimization_level": 0}
"""For a compiler that is asked for little: its passes would take most of the time, and change rounding at most."""


def outputs(function: Callable, modules: object, *operands: object) -> object:
    """What ``function(modules, *operands)`` gives.

    Args:
        function: of modules; it changes nothing in them.
        modules: an ``nnx.Module``, or a tree of them.
        operands: trees of arrays.
    """
    graph, state = nnx.split(modules)
    compute = lambda state, *operands: function(nnx.merge(graph, state), *operands)  # noqa: E731
    return jax.jit(compute, compiler_options=QUICKLY_COMPILED)(state, *operands)


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

    @partial(jax.jit, compiler_options=QUICKLY_COMPILED)
    def compute(operands, above):
        derived = [jax.vjp(way, *operands) for way in ways]
        return [(value, *derive(above)) for value, derive in derived]

    return compute(tuple(operands), above)
