"""A convolution kernel's gradient, in the ways in which a CPU's libraries are quickest.

It is a convolution, too: images and pixels are summed over, the channels of one of both maps make a batch, and those
of the other are its output channels. XLA gives it to Eigen if these are at most 16, and to YNNPACK if they are more.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from afiu_jax.convolution.taps import Pair


def kernel_gradient(
    x: Float[Array, "b h w c"],
    above: Float[Array, "b h2 w2 f"],
    taps: Pair,
    strides: Pair,
    low: Pair,
    dilation: Pair,
    **options: object,
) -> Float[Array, "kh kw c f"]:
    """The gradient of the kernel of ``jax.lax.conv_general_dilated``, for maps with channels last.

    Measured on two cores (AVX-512, jax 0.10), milliseconds: 32 → 16 channels on four 80×80 maps take 2.7 in place of
    8.2, with their roles exchanged; 16 → 16 on two 160×160 maps 3.8 in place of 12.3, in strips; 128 → 64 on four of
    them 98 in place of 220, with both exchanged roles and bands.

    Args:
        x: maps.
        above: gradient of the convolution's results.
        taps: height and width of the kernel.
        strides: of either axis, in pixels.
        low: rows above and columns left that were added; how many below and right follows from the sizes.
        dilation: distance between taps on either axis, in pixels.
        options: what else ``conv_general_dilated`` takes, for one group of channels.
    """
    reach = [step * (tap - 1) for step, tap in zip(dilation, taps, strict=True)]  # from the first tap to the last
    if max(strides) == 1 and _is_quicker_exchanged(x, above):
        turned = [n - before for n, before in zip(reach, low, strict=True)]
        exchanged = kernel_gradient(above, x, taps, strides, turned, dilation, **options)
        return exchanged[::-1, ::-1].swapaxes(2, 3)
    # What the map lacks, or has too much, for as many rows and columns as the taps of all results meet.
    met = [step * (side - 1) + 1 + n for step, side, n in zip(strides, above.shape[1:3], reach, strict=True)]
    around = [(n, size - side - n) for n, size, side in zip(low, met, x.shape[1:3], strict=True)]
    correlate = partial(_correlate, strides=strides, dilation=dilation, **options)
    if max(strides) > 1:
        return correlate(x, above, around)
    if above.shape[-1] <= _EIGEN:
        return correlate(*_cut_into_strips(x, above, around, reach))
    return _sum_bands(correlate, x, above, around, reach)


def _correlate(x: Array, above: Array, around: Sequence[Pair], strides: Pair, dilation: Pair, **options) -> Array:
    """As XLA orders it: the gradients of results are the kernel, so that ``dilation`` and ``strides`` change places."""
    channels, results = x.transpose(3, 1, 2, 0), above.transpose(1, 2, 0, 3)
    found = jax.lax.conv_general_dilated(channels, results, dilation, around, rhs_dilation=strides, **options)
    return found.transpose(1, 2, 0, 3)


def _is_quicker_exchanged(x: Array, above: Array) -> bool:
    """Whether the results' gradient rather is the map, whose channels make the batch, and the map the kernel.

    For Eigen, which copies a window for each channel of the batch; and from 128 output channels on YNNPACK is quicker.
    Neither takes a kernel that is larger than the map.
    """
    (_, *sides, channels), (images, *results, features) = x.shape, above.shape
    fits = all(side <= result for side, result in zip(sides, results, strict=True))
    is_wide = channels >= _QUICK and images * prod(results) >= _FEW
    return fits and channels > features and (features <= _EIGEN or is_wide)


def _cut_into_strips(
    x: Array, above: Array, around: Sequence[Pair], reach: Pair
) -> tuple[Array, Array, Sequence[Pair]]:
    """For Eigen, which is quick with eight images: strips of columns as further ones, if these divide the width."""
    images, height, width, _ = above.shape
    if not 0 < images < _IMAGES or images * height * width < _FEW:
        return x, above, around
    strips = max(n for n in range(1, -(-_IMAGES // images) + 1) if width % n == 0)
    if strips == 1:
        return x, above, around
    x, columns = _pad(x, [(0, 0), around[1]]), width // strips
    starts = range(0, width, columns)
    # An image's strips next to each other, so that a batch that lies on several devices stays where it is.
    x = jnp.stack([x[:, :, start : start + columns + reach[1]] for start in starts], 1)
    above = jnp.stack([above[:, :, start : start + columns] for start in starts], 1)
    x, above = (array.reshape(-1, *array.shape[2:]) for array in (x, above))
    return x, above, [around[0], (0, 0)]


def _sum_bands(correlate: Callable, x: Array, above: Array, around: Sequence[Pair], reach: Pair) -> Array:
    """For YNNPACK, bands of rows of large maps, so that a processor's cache holds what serves as each one's kernel."""
    if above.size <= _LARGE or jnp.finfo(above.dtype).bits < 32:  # else each sum would be rounded
        return correlate(x, above, around)
    x, height = _pad(x, [around[0], (0, 0)]), above.shape[1]
    rows = -(-height // min(-(-above.size // _BAND), _BANDS))
    parts = [above[:, start : start + rows] for start in range(0, height, rows)]
    maps = [x[:, n * rows : n * rows + part.shape[1] + reach[0]] for n, part in enumerate(parts)]
    return sum(correlate(met, part, [(0, 0), around[1]]) for met, part in zip(maps, parts, strict=True))


def _pad(x: Array, around: Sequence[Pair]) -> Array:
    """Zeros around a map, or less of it where they are negative."""
    return jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pair, 0) for pair in around), (0, 0, 0)])


_EIGEN = 16
"""Output channels up to which XLA leaves a convolution to Eigen."""

_QUICK = 128
"""Output channels from which YNNPACK takes 0.6 of the time for each."""

_FEW = 400
"""Pixels of all results of a batch below which neither so many channels nor strips are quicker."""

_IMAGES = 8
"""Images from which Eigen is quick: these lie side by side, and so many numbers are copied together (AVX)."""

_LARGE = 2**22
"""Numbers in the map that serves as a kernel from which on it is cut into bands."""

_BAND = 2**20
"""Numbers in each of these, about."""

_BANDS = 32
"""The most of them, as each is a convolution of the program."""
