"""What the taps of a convolution's kernel meet: padding in pixels, and a map for each tap."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Pair = Sequence[int]
"""A number for each of the two image axes, down and across."""


def padding_in_pixels(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c2 f"],
    strides: Pair,
    padding: str | Sequence[Pair],
    dilation: Pair,
) -> Sequence[Pair]:
    """What a word for a convolution's padding, Flax's default, means for these maps; numbers are passed on.

    Args:
        x: maps.
        kernel: height, width, input channels of a group, output channels.
        strides: of either axis, in pixels.
        padding: rows above and below, columns left and right; or ``SAME``, ``VALID``.
        dilation: distance between taps on either axis, in pixels.

    Returns:
        Rows above and below, columns left and right.
    """
    if not isinstance(padding, str):
        return padding
    sides = [step * (tap - 1) + 1 for step, tap in zip(dilation, kernel.shape, strict=False)]
    return jax.lax.padtype_to_pads(x.shape[1:3], sides, strides, padding)


def windows_of(
    x: Float[Array, "b h w c"], taps: Pair, strides: Pair, padding: Sequence[Pair], dilation: Pair
) -> list[Float[Array, "b h2 w2 c"]]:
    """The pixels that each tap of a kernel meets.

    Args:
        x: maps.
        taps: height and width of the kernel.
        strides: of either axis, in pixels.
        padding: rows above and below, columns left and right.
        dilation: distance between taps on either axis, in pixels.

    Returns:
        Maps of the output's size, taps row by row.
    """
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    starts = [[dilation[axis] * tap for tap in range(taps[axis])] for axis in (0, 1)]
    last = [x.shape[axis + 1] - starts[axis][-1] for axis in (0, 1)]
    return [
        x[:, row : row + last[0] : strides[0], column : column + last[1] : strides[1]]
        for row in starts[0]
        for column in starts[1]
    ]
