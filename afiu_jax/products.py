"""Convolutions as matrix products, for processors on which these are faster.

A convolution is one product with its kernel and a shift of what each tap contributes. XLA's own on a CPU is slow in
three places that every network here has: 1×1 kernels, small maps of many channels (it transposes the whole kernel for
the gradient), and single-channel heads. Where maps and channels are both many, 3×3 kernels need fewer products
(``winograd``). Written so, the derivatives are products as well. For maps, narrow kernels go to another of XLA's
libraries. The result is the same up to rounding.
"""

from collections.abc import Sequence
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from afiu_jax import canonical, grouped
from afiu_jax.taps import padding_in_pixels, windows_of
from afiu_jax.winograd import convolve_3x3, filter_kernel

Pair = Sequence[int]

PRODUCT = "product"
"""Name of results that ``jax.checkpoint`` should keep, of convolutions in which it sees none."""


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
    160×160 pixels on it takes 0.54 to 0.97 of the time. YNNPACK cannot where a result is larger than the map, so one
    more row is computed below, and cut off.

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
        return checkpoint_name(found, PRODUCT)
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
    return found if is_repeatable(kernel.shape) else checkpoint_name(found, PRODUCT)


convolve_in_use = partial(convolve, in_use=True)
"""``convolve`` where no gradient is taken."""


class FilteredKernel(nnx.Variable):
    """What ``winograd.filter_kernel`` makes of a kernel, kept beside it."""


class FilteredConvolution(nnx.Module):
    """A convolution with a kernel that is filtered once, not for every image.

    By the kernel alone: with nothing to filter, maps of any size are faster so (AFIU's at 320 px: 0.94 with those that
    ``convolve`` takes).
    """

    def __init__(self, filtered: Float[Array, "16 c f"]):
        self.filtered = FilteredKernel(filtered)

    def __call__(
        self, x: Float[Array, "b h w c"], kernel: Array, strides: Pair, padding: str | Sequence[Pair], **_: object
    ) -> Float[Array, "b h2 w2 f"]:
        """As ``convolve``; ``kernel`` is the one that was filtered, of which only the shape is looked at."""
        return convolve_3x3(x, self.filtered[...], padding_in_pixels(x, kernel, strides, padding, (1, 1)))


def filter_kernels(model: nnx.Module, params: nnx.State) -> nnx.State:
    """Filters the wide kernels of a network in use once, which ``convolve`` does whenever it meets a large map.

    Half a second, and 1 GB from then on, for AFIU, whose map takes a tenth less. Where no kernel is wide enough, as in
    U²-Netp, nothing is done; nor where convolutions are left to XLA, see ``set_convolutions``, or a kernel is changed
    in every call: by a mask, a class made of ``nnx.Conv``, a ``promote_dtype`` of one's own or Flax's weight norms.

    Args:
        model: the network, abstract or not, which is set to expect them, in place.
        params: its weights.

    Returns:
        The filtered kernels: part of the network's state from now on, beside the weights.
    """
    kernels = {path[:-1]: variable[...] for path, variable in nnx.to_flat_state(params) if path[-1] == "kernel"}
    modules = list(nnx.iter_modules(model))
    rewritten = [path for path, module in modules if isinstance(module, nnx.SpectralNorm | nnx.WeightNorm)]
    wide = {}
    for path, module in modules:
        # Of a kernel that two convolutions share, only one is filtered: the state has it under one name.
        if path not in kernels or not _uses_its_kernel(module) or any(path[: len(r)] == r for r in rewritten):
            continue
        strides, dilation = (np.broadcast_to(n or 1, 2).tolist() for n in (module.strides, module.kernel_dilation))
        dtype = jnp.dtype(module.dtype or module.param_dtype)
        if kernels[path].ndim == 4 and _is_wide(module.kernel_shape, strides, dilation, dtype):
            wide[path] = module
    filtered = jax.jit(lambda kernels: [filter_kernel(kernel.astype(jnp.float32)) for kernel in kernels])(
        [kernels[path] for path in wide]
    )
    for module, kernel in zip(wide.values(), filtered, strict=True):
        module.conv_general_dilated = nnx.data(FilteredConvolution(kernel))
    return nnx.state(model, FilteredKernel)


def _uses_its_kernel(module: nnx.Module) -> bool:
    """Whether a module is a plain convolution that ``convolve_in_use`` computes, with its kernel as it lies there."""
    # A class made of it may change the kernel when it is called, as may types' conversion where it is one's own.
    as_it_lies = type(module) is nnx.Conv and module.mask is None and module.promote_dtype is promote_dtype
    return as_it_lies and module.feature_group_count == 1 and module.conv_general_dilated is convolve_in_use


def is_repeatable(kernel: Sequence[int]) -> bool:
    """Whether a convolution is rather computed again than its result kept: 1×1 and more channels out than in.

    Bottlenecks have such ones: of AFIU's 11.1 GB for 32 images that saves 0.3, for one per cent more operations.

    Args:
        kernel: sides, input and output channels.
    """
    *sides, channels, features = kernel
    return set(sides) == {1} and features > channels


_MANY = 512 * 512
"""Products of input and output channels from which the kernel, not the map, is what takes time."""

_FEW = 256
"""Pixels of all output maps of a batch up to which copying each for every tap costs little."""

_WIDE = 128 * 128
"""Input times output channels from which Winograd's filtering is worth the memory of its tiles."""

_LARGE = 400
"""Pixels of all output maps of a batch from which it is worth transforming the kernel."""

_NARROW = range(17, 65)
"""Output channels of kernels that suit Eigen, with no more in; those with fewer it is given anyway."""

_BROAD = 80 * 80
"""Pixels of all output maps of a batch from which they do."""

_HEAD = 4
"""Output channels up to which multiplying first, then shifting the results, moves less than the opposite."""


def _suits_winograd(x: Array, kernel: Array, strides: Pair, dilation: Pair) -> bool:
    return _is_wide(kernel.shape, strides, dilation, x.dtype) and _pixels(x, strides) >= _LARGE


def _is_wide(kernel: Sequence[int], strides: Pair, dilation: Pair, dtype: DTypeLike) -> bool:
    plain = tuple(kernel[:2]) == (3, 3) and max(*strides, *dilation) == 1 and dtype == jnp.float32
    return plain and kernel[2] * kernel[3] >= _WIDE


def _suits_eigen(x: Array, kernel: Array, strides: Pair, padding: Sequence[Pair], dilation: Pair) -> bool:
    height, width, channels, features = kernel.shape
    keeps_size = max(strides) == 1 and max(height, width) > 1 and sum(padding[0]) == dilation[0] * (height - 1)
    narrow = features in _NARROW and channels <= features and x.dtype == jnp.float32
    return keeps_size and narrow and _pixels(x, strides) >= _BROAD


def _pixels(x: Array, strides: Pair) -> int:
    return x.shape[0] * prod(-(-side // stride) for side, stride in zip(x.shape[1:3], strides, strict=True))
