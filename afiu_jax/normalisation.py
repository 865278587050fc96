"""The arithmetic of batch normalisation: a batch's statistics, and values normalised by them, with their gradient."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def statistics(
    x: Float[Array, "... c"], *, near: Float[Array, " c"] | None = None, loops: bool = False
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Mean and biased variance over all axes but the last, float32 at least; no gradient is to be taken of them.

    In two passes, the variance from differences from the mean, since E[x²] − E[x]² loses the digits that small
    gradients need. With ``near``, in one: both from differences from that (shifted data; Chan, Golub and LeVeque,
    The American Statistician 1983), which loses (mean − near)² / variance of the last digits. A GPU then reads ``x``
    once; on a CPU two sums in one loop take longer than two passes.

    Args:
        x: of the compute type.
        near: about the mean, such as the running one.
        loops: how sums of few values are computed, see ``_sum``.
    """
    x, count = _wide(x), x.size // x.shape[-1]
    if near is None:
        mean = _sum(x, loops) / count
        return mean, _sum(jnp.square(x - mean), loops) / count
    apart = x - near
    off, square = _sum(apart, loops) / count, _sum(jnp.square(apart), loops) / count
    return near + off, jnp.maximum(square - jnp.square(off), 0)


@partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7))
def normalise(
    x: Float[Array, "... c"],
    mean: Float[Array, " c"],
    var: Float[Array, " c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    epsilon: float,
    dtype: jnp.dtype,
    loops: bool = False,
) -> Float[Array, "... c"]:
    """``x`` normalised by its own statistics.

    Its gradient, of which they are a part, is written out in two sums over the map (Ioffe and Szegedy 2015), which a
    GPU's program computes in fewer fusions than the derived one.

    Args:
        x: of the compute type.
        mean: of ``x``; its gradient is not handed on, as it is in that of ``x``.
        var: biased, the same.
        scale: float32, as ``bias``.
        bias: what the normalised values' mean is.
        epsilon: is added to the variance.
        dtype: of the result.
        loops: how sums of few values are computed, see ``_sum``.
    """
    return _forward(x, mean, var, scale, bias, epsilon, dtype, loops)[0]


def _forward(x, mean, var, scale, bias, epsilon, dtype, loops):
    inverse = jax.lax.rsqrt(var + epsilon)
    normalised = (_wide(x) - mean) * (scale * inverse) + bias
    return normalised.astype(dtype), (x, mean, inverse, scale)


def _backward(epsilon, dtype, loops, kept, above):
    x, mean, inverse, scale = kept
    above = _wide(above)
    standard = (_wide(x) - mean) * inverse
    bias_gradient = _sum(above, loops)
    scale_gradient = _sum(above * standard, loops)
    count = x.size // x.shape[-1]
    gradient = (scale * inverse) * (above - (bias_gradient + standard * scale_gradient) / count)
    nothing = jnp.zeros_like(mean)
    return gradient.astype(x.dtype), nothing, nothing, scale_gradient, bias_gradient


normalise.defvjp(_forward, _backward)


_FEW = 4096
"""Pixels of all images, or of a group of them, up to which XLA's loops take no more of a step than its library."""


def _sum(x: Float[Array, "... c"], loops: bool) -> Float[Array, " c"]:
    """Over all axes but the last.

    On a CPU, XLA leaves sums to a library, and takes milliseconds for each to look it up as a program is read and to
    prepare it in the first step. AFIU's step at 160 px has 628, four fifths of them of few pixels. With ``loops`` these
    are not left to it, since they are not written as sums: a − (−b), which is a + b to the last bit. No all-reduce
    knows that, so it is not for maps that lie on several devices.
    """
    axes = tuple(range(x.ndim - 1))
    if loops and x.size // x.shape[-1] <= _FEW:
        return jax.lax.reduce(x, np.zeros((), x.dtype), lambda a, b: a - (-b), axes)
    return x.sum(axes)


def _wide(x: Array) -> Array:
    """In float32 at least."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
