"""The arithmetic of batch normalisation: values normalised by their own statistics, and the gradient of that."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

STATISTICS = "batch statistics"
"""Name of means and variances, for policies of ``jax.checkpoint``."""

Way = Literal["two passes", "loops", "one pass"]
"""How statistics are computed, the same up to rounding: anywhere, on one CPU (see ``_sum``), on a GPU."""


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def normalise(
    x: Float[Array, "... c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    epsilon: float,
    dtype: jnp.dtype,
    way: Way,
) -> tuple[Float[Array, "... c"], Float[Array, " c"], Float[Array, " c"]]:
    """``x`` normalised by its own statistics; mean and biased variance, float32 at least, without a gradient.

    The gradient of the first is written out in two sums over the map (Ioffe and Szegedy 2015), which a GPU's program
    computes in fewer fusions than the derived one.

    Args:
        x: of the compute type.
        scale: float32.
        bias: float32.
        epsilon: is added to the variance.
        dtype: of the normalised values.
        way: how statistics are computed.
    """
    return _forward(x, scale, bias, epsilon, dtype, way)[0]


def _forward(x, scale, bias, epsilon, dtype, way):
    mean, var = statistics(x, way)
    mean, var = checkpoint_name(mean, STATISTICS), checkpoint_name(var, STATISTICS)
    inverse = jax.lax.rsqrt(var + epsilon)
    normalised = (_wide(x) - mean) * (scale * inverse) + bias
    return (normalised.astype(dtype), mean, var), (x, scale, mean, inverse)


def _backward(epsilon, dtype, way, kept, cotangents):
    x, scale, mean, inverse = kept
    above = _wide(cotangents[0])
    standard = (_wide(x) - mean) * inverse
    bias_gradient = _sum(above, way)
    scale_gradient = _sum(above * standard, way)
    count = x.size // x.shape[-1]
    gradient = (scale * inverse) * (above - (bias_gradient + standard * scale_gradient) / count)
    return gradient.astype(x.dtype), scale_gradient, bias_gradient


normalise.defvjp(_forward, _backward)


def statistics(x: Float[Array, "... c"], way: Way) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Mean and biased variance over all axes but the last, float32 at least.

    In two passes the variance comes from differences from the mean, since E[x²] − E[x]² loses the digits that small
    gradients need. In one, mean and variance come from differences from a value of the batch, the middle of the first
    image (shifted data; Chan, Golub and LeVeque, The American Statistician 1983). If that is d standard deviations
    from the mean, the variance has about 1 + d² times the relative error of a sum; d² is a few as a rule, and at most
    the number of values, if all others are alike. A GPU then reads ``x`` once; on a CPU it gains nothing.

    Args:
        x: of the compute type, of at least one value.
        way: how they are computed.
    """
    count = x.size // x.shape[-1]
    if way == "one pass":
        middle = (0, *(side // 2 for side in x.shape[1:-1]))
        near = jax.lax.stop_gradient(_wide(x[middle]))
        apart = _wide(x) - near
        mean = _sum(apart, way) / count
        square = _sum(jnp.square(apart), way) / count
        # Rounding may take it below nothing where all values but the one in the middle are alike.
        return near + mean, jnp.maximum(square - jnp.square(mean), 0)
    x = _wide(x)
    mean = _sum(x, way) / count
    return mean, _sum(jnp.square(x - mean), way) / count


_FEW = 4096
"""Pixels of all images, or of a group of them, up to which XLA's loops take no more of a step than its library."""


def _sum(x: Float[Array, "... c"], way: Way) -> Float[Array, " c"]:
    """Over all axes but the last.

    On a CPU, XLA leaves sums to a library, and takes milliseconds for each to look it up as a program is read and to
    prepare it in the first step. AFIU's step at 160 px has 628, four fifths of them of few pixels. As ``loops`` these
    are not left to it, since they are not written as sums: a − (−b), which is a + b to the last bit. No all-reduce
    knows that, so it is not for maps that lie on several devices.
    """
    axes = tuple(range(x.ndim - 1))
    if way == "loops" and x.size // x.shape[-1] <= _FEW:
        return jax.lax.reduce(x, np.zeros((), x.dtype), lambda a, b: a - (-b), axes)
    return x.sum(axes)


def _wide(x: Array) -> Array:
    """In float32 at least."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
