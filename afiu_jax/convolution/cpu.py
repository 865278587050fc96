"""Convolutions on a CPU: as matrix products where these are faster, and by which library where not.

A convolution is one product with its kernel and a shift of what each tap contributes. XLA's own on a CPU is slow in
three places that every network here has: 1×1 kernels, small maps of many channels (it transposes the whole kernel for
the gradient), and single-channel heads. Where maps and channels are both many, 3×3 kernels need fewer products
(``winograd``). Written so, the derivatives are products as well. For maps, narrow kernels go to another of XLA's
libraries, up to jax 0.10. The result is the same up to rounding.
"""

from collections.abc import Sequence
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from afiu_jax.convolution import canonical, grouped
from afiu_jax.convolution.remat import KEPT, keep
from afiu_jax.convolution.taps import Pair, padding_in_pixels, windows_of
from afiu_jax.convolution.winograd import convolve_3x3, is_wide_3x3


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c2 f"],
    strides: Pair,
    padding: str | Sequence[Pair],
    *,
    rhs_dilation: Pair = (1, 1),
    feature_group_count: int = 1,
    in_use: bool = False,
    **options: object,
) -> Float[Array, "b h2 w2 f"]:
    """``jax.lax.conv_general_dilated`` of maps with channels last, as a product where that is faster.

    Measured on two cores against XLA with YNNPACK (jax 0.10), forward and both gradients together: 1×1 kernels take
    half of the time, so do 1,024 → 1,024 channels on 10×10 maps; 64 → 1 channels on 160×160 maps take a sixth; 3×3
    kernels from 256 to 256 channels on 80×80 maps take half.

    Of what is left, whose gradients are ``canonical``'s, XLA gives a convolution to YNNPACK if that can take it, and to
    Eigen if not. In use, Eigen gets those on large maps of at most 64 channels, and as many out as in or more: from
    160×160 pixels on it takes 0.54 to 0.97 of the time with jax 0.10. With 0.12 it takes 1.1 to 1.8, so from 0.11 on
    they are left to YNNPACK. That cannot where a result is larger than the map, so one more row is computed below, and
    cut off.

    Args:
        x: maps.
        kernel: height, width, input channels of a group, output channels.
        strides: of either axis, in pixels.
        padding: rows above and below, columns left and right; or ``SAME``, ``VALID``.
        rhs_dilation: distance between taps on either axis, in pixels.
        feature_group_count: of channels; more than one are ``grouped``'s.
        in_use: no gradient is taken, which would be right, but slow where a row more is computed.
        options: what else ``conv_general_dilated`` takes, of no meaning for a product.

    Returns:
        Maps of the output's size, of the type of ``x``; not all have a forward-mode derivative (``jax.jvp``).
    """
    height, width, channels, features = kernel.shape
    padding = padding_in_pixels(x, kernel, strides, padding, rhs_dilation)
    if feature_group_count > 1:
        options |= {"rhs_dilation": rhs_dilation, "feature_group_count": feature_group_count}
        compute = jax.lax.conv_general_dilated if in_use else canonical.convolve
        found = grouped.convolve(x, kernel, strides, padding, compute=compute, **options)
        return checkpoint_name(found, KEPT)
    if in_use and _suits_eigen(x, kernel, strides, padding, rhs_dilation):
        (above, below), across = padding
        padding = ((above, below + 1), across)
        found = jax.lax.conv_general_dilated(x, kernel, strides, padding, rhs_dilation=rhs_dilation, **options)
        return found[:, :-1]
    if height == width == 1 or (channels * features >= _MANY and _pixels(x, strides) <= _FEW):
        windows = windows_of(x, (height, width), strides, padding, rhs_dilation)
        found = jnp.tensordot(jnp.concatenate(windows, -1), kernel.reshape(-1, features), 1)
    elif _suits_winograd(x, kernel, strides, rhs_dilation):
        found = convolve_3x3(x, kernel, padding)
    elif features <= _HEAD and max(strides) == 1 and jnp.finfo(x.dtype).bits >= 32:  # else each sum would be rounded
        parts = jnp.tensordot(x, jnp.moveaxis(kernel, 2, 0).reshape(channels, -1), 1)
        windows = windows_of(parts, (height, width), strides, padding, rhs_dilation)
        found = sum(window[..., n * features : (n + 1) * features] for n, window in enumerate(windows))
    elif in_use:
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, rhs_dilation=rhs_dilation, **options)
    else:
        found = canonical.convolve(x, kernel, strides, padding, rhs_dilation=rhs_dilation, **options)
    return keep(found, kernel.shape)


convolve_in_use = partial(convolve, in_use=True)
"""``convolve`` where no gradient is taken."""


_MANY = 512 * 512
"""Products of input and output channels from which the kernel, not the map, is what takes time."""

_FEW = 256
"""Pixels of all output maps of a batch up to which copying each for every tap costs little."""

_LARGE = 400
"""Pixels of all output maps of a batch from which it is worth transforming the kernel."""

_NARROW = range(17, 65)
"""Output channels of kernels that suit Eigen, with no more in; those with fewer it is given anyway."""

_BROAD = 80 * 80
"""Pixels of all output maps of a batch from which they do."""

_EIGEN_IS_QUICKER = jax.__version_info__ < (0, 11)
"""At such convolutions: from jax 0.11 on, YNNPACK shares them equally among two processors."""

_HEAD = 4
"""Output channels up to which multiplying first, then shifting the results, moves less than the opposite."""


def _suits_winograd(x: Array, kernel: Array, strides: Pair, dilation: Pair) -> bool:
    return is_wide_3x3(kernel.shape, strides, dilation, x.dtype) and _pixels(x, strides) >= _LARGE


def _suits_eigen(x: Array, kernel: Array, strides: Pair, padding: Sequence[Pair], dilation: Pair) -> bool:
    height, width, channels, features = kernel.shape
    keeps_size = max(strides) == 1 and max(height, width) > 1 and sum(padding[0]) == dilation[0] * (height - 1)
    narrow = features in _NARROW and channels <= features and x.dtype == jnp.float32
    return _EIGEN_IS_QUICKER and keeps_size and narrow and _pixels(x, strides) >= _BROAD


def _pixels(x: Array, strides: Pair) -> int:
    return x.shape[0] * prod(-(-side // stride) for side, stride in zip(x.shape[1:3], strides, strict=True))
