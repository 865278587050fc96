"""Convolutions in groups of channels, for processors: depthwise ones as sums of maps, others group by group.

No network of the paper has any, but those that people bring often do. XLA's own on a CPU leave its libraries unused.
Measured on two cores (jax 0.10, four images), value and both gradients together: 3×3 kernels of 128 channels in 32
groups on 40×40 maps take 27 ms in place of 1,918, of 64 in 4 on 80×80 maps 30 in place of 730; 96 channels one by one
on 80×80 maps 34 in place of 170, their value alone 1.4 in place of 64.
"""

from collections.abc import Callable, Sequence
from math import prod

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from afiu_jax.convolution.taps import Pair, windows_of

_TAPS = 7 * 7
"""Of a kernel whose taps are written out one by one; of more, the program would be long."""


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c2 f"],
    strides: Pair,
    padding: Sequence[Pair],
    *,
    rhs_dilation: Pair,
    feature_group_count: int,
    compute: Callable,
    **options: object,
) -> Float[Array, "b h2 w2 f"]:
    """``jax.lax.conv_general_dilated`` of maps with channels last, in groups.

    Args:
        x: maps.
        kernel: height, width, input channels of a group, output channels.
        strides: of either axis, in pixels.
        padding: rows above and below, columns left and right.
        rhs_dilation: distance between taps on either axis, in pixels.
        feature_group_count: how many groups the channels make.
        compute: what convolves one group, with the arguments of ``conv_general_dilated``.
        options: what else that takes.

    Returns:
        Maps of the output's size, of the type of ``x``.
    """
    *taps, channels, features = kernel.shape
    options |= {"rhs_dilation": rhs_dilation}
    if channels > 1:
        groups = [jnp.moveaxis(a.reshape(*a.shape[:-1], feature_group_count, -1), -2, 0) for a in (x, kernel)]
        found = jax.lax.map(lambda group: compute(*group, strides, padding, **options), groups)
        return jnp.moveaxis(found, 0, -2).reshape(*found.shape[1:-1], features)
    # In a narrower type each sum would be rounded, where a convolution's is not.
    if prod(taps) > _TAPS or jnp.finfo(x.dtype).bits < 32:
        options |= {"feature_group_count": feature_group_count}
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    x = jnp.repeat(x, features // feature_group_count, -1)
    windows = windows_of(x, taps, strides, padding, rhs_dilation)
    return sum(window * tap for window, tap in zip(windows, kernel.reshape(-1, features), strict=True))
