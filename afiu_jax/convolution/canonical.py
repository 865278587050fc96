"""Convolutions whose gradients have their channels last, as they have themselves.

JAX writes a gradient as a convolution of the same arrays in other roles: channels as a batch, a kernel from its other
end. A CPU's libraries take none of these. XLA turns them round, but only in a program's main part: within a loop, as of
``train.accumulate``, it computes them number by number (AFIU-small's step in 13 times the time).
"""

from collections.abc import Sequence
from functools import partial

import jax
from jaxtyping import Array, Float

from afiu_jax.convolution.kernel_gradient import kernel_gradient
from afiu_jax.convolution.taps import Pair


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c f"],
    strides: Pair,
    padding: Sequence[Pair],
    *,
    rhs_dilation: Pair,
    **options: object,
) -> Float[Array, "b h2 w2 f"]:
    """``jax.lax.conv_general_dilated`` of maps with channels last; no forward mode (``jax.jvp``).

    Args:
        x: maps.
        kernel: height, width, input and output channels.
        strides: of either axis, in pixels.
        padding: rows above and below, columns left and right.
        rhs_dilation: distance between taps on either axis, in pixels.
        options: what else ``conv_general_dilated`` takes, for one group of channels.

    Returns:
        Maps of the output's size, of the type of ``x``.
    """
    how = tuple(strides), tuple(map(tuple, padding)), tuple(rhs_dilation)
    return _convolve(x, kernel, *how, tuple(options.items()))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _convolve(x: Array, kernel: Array, strides: Pair, padding: tuple, dilation: Pair, options: tuple) -> Array:
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, rhs_dilation=dilation, **dict(options))


def _forward(x, kernel, *how):
    # Stored once for both: XLA would compute what comes before again, in the order in which the gradient reads it.
    x = jax.lax.optimization_barrier(x)
    return _convolve(x, kernel, *how), (x, kernel)


def _backward(strides, padding, dilation, options, kept, above):
    """A map's gradient: results, ``strides`` apart, meet the kernel from its other end, from output to input channels.

    Padding, which may be negative, is what gives it the map's size.
    """
    x, kernel = kept
    above = jax.lax.optimization_barrier(above)  # stored once for both gradients
    low, around = [before for before, _ in padding], []
    for n in (0, 1):
        taps, results = dilation[n] * (kernel.shape[n] - 1), strides[n] * (above.shape[n + 1] - 1)
        around.append((taps - low[n], x.shape[n + 1] - 1 - results + low[n]))
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    compute = partial(jax.lax.conv_general_dilated, **dict(options))
    to_x = compute(above, turned, (1, 1), around, lhs_dilation=strides, rhs_dilation=dilation)
    return to_x, kernel_gradient(x, above, kernel.shape[:2], strides, low, dilation, **dict(options))


_convolve.defvjp(_forward, _backward)
