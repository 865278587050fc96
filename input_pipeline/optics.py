"""The lens, shared by everything that renders defocus: disk blur, layers, and the sRGB curve.

A lens adds light, so all blurring here happens on linear intensities; 8-bit photos are decoded before and
encoded after. An out-of-focus point spreads over a disk, the circle of confusion; its radius in pixels is the
one measure of blur in this package. Everything is pure and safe to call from several threads.
"""

from functools import cache

import numpy as np
import scipy  # its parts, which take a while to load, are loaded where they are first used
from jaxtyping import Float32, UInt8

SHARP_RADIUS = 0.5
"""Up to this radius, in pixels, the disk lies inside one pixel and blur is the identity."""

_ENCODE_STEPS = 1 << 14  # fine enough that decoding and encoding gives all 256 levels back
_SUBPIXELS = 4


@cache
def _curves() -> tuple[Float32[np.ndarray, "256"], Float32[np.ndarray, " n"]]:
    coded = np.linspace(0, 1, 256)
    decode = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    linear = np.linspace(0, 1, _ENCODE_STEPS)
    encode = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return decode.astype(np.float32), (255 * encode).astype(np.float32)


def decode_srgb(image: UInt8[np.ndarray, "*dims"]) -> Float32[np.ndarray, "*dims"]:
    """Linear intensity 0–1 of 8-bit sRGB values."""
    return _curves()[0][image]


def expose(linear: Float32[np.ndarray, "h w 3"], noise: float, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Record linear light as an 8-bit sRGB photo.

    Args:
        linear: intensity; values outside 0–1 clip.
        noise: standard deviation of the sensor noise, in levels of 255 after the sRGB curve. That curve is
            near the square root that makes photon noise alike in dark and bright, so one number will do.
        rng: where the noise comes from; unused if ``noise`` is 0.
    """
    table = _curves()[1]
    steps = np.clip(linear * (_ENCODE_STEPS - 1) + 0.5, 0, _ENCODE_STEPS - 1)
    levels = table[steps.astype(np.int32)]
    if noise > 0:
        levels += np.float32(noise) * rng.standard_normal(levels.shape, dtype=np.float32)
    return np.clip(levels + 0.5, 0, 255).astype(np.uint8)


def disk_kernel(radius: float) -> Float32[np.ndarray, "k k"]:
    """The circle of confusion: each pixel weighted by how much of it a disk of this radius covers.

    Args:
        radius: in pixels, fractions welcome.

    Returns:
        A kernel of odd side ``2 ceil(radius - .5) + 1`` that sums to 1.

    Raises:
        ValueError: the radius is negative or not finite.
    """
    if not 0 <= radius < np.inf:
        raise ValueError(f"radius must be finite and at least 0, got {radius}")
    reach = max(0, int(np.ceil(radius - 0.5)))
    side = 2 * reach + 1
    axis = (np.arange(side * _SUBPIXELS) + 0.5) / _SUBPIXELS - side / 2
    distance = np.hypot(axis[:, None], axis[None, :])
    covered = np.clip((radius - distance) * _SUBPIXELS + 0.5, 0, 1)
    kernel = covered.reshape(side, _SUBPIXELS, side, _SUBPIXELS).sum(axis=(1, 3))
    if reach == 0:
        return np.ones((1, 1), np.float32)
    return (kernel / kernel.sum()).astype(np.float32)


def blur(planes: Float32[np.ndarray, "h w c"], radius: float) -> Float32[np.ndarray, "h w c"]:
    """Spread every point over a disk of ``radius`` pixels; the picture continues mirrored past its borders.

    Premultiplied layers (colour times coverage, with coverage as a fourth plane) blur correctly as they are.
    Returns ``planes`` itself for radii up to `SHARP_RADIUS`. Raises ValueError as `disk_kernel` does.
    """
    kernel = disk_kernel(radius)
    pad = kernel.shape[0] // 2
    if pad == 0:
        return planes
    h, w, _ = planes.shape
    padded = np.pad(planes, ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
    shape = tuple(scipy.fft.next_fast_len(n, real=True) for n in padded.shape[:2])
    spectrum = scipy.fft.rfft2(padded, shape, axes=(0, 1))
    spectrum *= scipy.fft.rfft2(kernel, shape)[..., None]
    # What wraps around lands in the first 2 pad rows and columns, which the kernel's offset cuts off anyway.
    return scipy.fft.irfft2(spectrum, shape, axes=(0, 1))[2 * pad : 2 * pad + h, 2 * pad : 2 * pad + w]


def blur_varying(
    image: Float32[np.ndarray, "h w c"], radius: Float32[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w c"]:
    """Blur by a radius, in pixels, that changes slowly over the picture: for surfaces, not occluding edges.

    Blurred copies at radii in steps of a factor 1.5 are mixed linearly. Each copy is computed only inside the
    box where it counts, so that a ramp costs about two plain blurs.
    """
    levels = [0.0, SHARP_RADIUS]
    while levels[-1] < radius.max():
        levels.append(1.5 * levels[-1])
    position = np.interp(radius, levels, np.arange(len(levels))).astype(np.float32)
    mixed = np.zeros_like(image)
    for number, level in enumerate(levels):
        weight = np.maximum(1 - np.abs(position - number), 0)
        rows, columns = np.flatnonzero(weight.any(axis=1)), np.flatnonzero(weight.any(axis=0))
        if rows.size == 0:
            continue
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        reach = int(np.ceil(level))
        y, x = min(top, reach), min(left, reach)
        copy = blur(image[top - y : bottom + reach, left - x : right + reach], level)
        copy = copy[y : y + bottom - top, x : x + right - left]
        mixed[top:bottom, left:right] += weight[top:bottom, left:right, None] * copy
    return mixed


def over(front: Float32[np.ndarray, "h w 4"], back: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """Put a premultiplied layer, colour times coverage and coverage, before an opaque picture."""
    return front[..., :3] + (1 - front[..., 3:]) * back


def _halve(planes: Float32[np.ndarray, "h w c"]) -> Float32[np.ndarray, "h2 w2 c"]:
    planes = np.pad(planes, ((0, planes.shape[0] % 2), (0, planes.shape[1] % 2), (0, 0)), mode="edge")
    rows = planes[::2] + planes[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) / 4


def _double(planes: Float32[np.ndarray, "h2 w2 c"], axis: int) -> Float32[np.ndarray, "..."]:
    """Twice as many samples along ``axis``, bilinear with half-pixel centres."""
    moved = np.moveaxis(planes, axis, 0)
    before, after = np.concatenate([moved[:1], moved[:-1]]), np.concatenate([moved[1:], moved[-1:]])
    stacked = np.stack([0.75 * moved + 0.25 * before, 0.75 * moved + 0.25 * after], axis=1)
    return np.moveaxis(stacked.reshape(-1, *moved.shape[1:]), 0, axis)


def extend(image: Float32[np.ndarray, "h w 3"], known: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w 3"]:
    """Continue a surface where something hides it.

    Holes take the average of the known pixels around them, over a neighbourhood that grows by factors of two
    until it holds some (normalised convolution on a pyramid). No value outside ``known`` enters the result.

    Args:
        image: any values.
        known: 0 where the pixel belongs to something else, 1 where it is the surface. All zero gives zeros.
    """
    weighted = np.concatenate([image, np.ones_like(known)[..., None]], axis=-1) * known[..., None]
    return _extend(weighted)


def _extend(weighted: Float32[np.ndarray, "h w 4"]) -> Float32[np.ndarray, "h w 3"]:
    weight = weighted[..., 3:]
    h, w, _ = weighted.shape
    if weight.min() >= 1:
        return weighted[..., :3]
    if max(h, w) == 1:
        return weighted[..., :3] / np.maximum(weight, np.finfo(np.float32).tiny)
    coarse = _halve(weighted)
    # One known pixel is enough to decide the coarse one: its colour counts fully from here on.
    coarse /= np.where(coarse[..., 3:] > 0, coarse[..., 3:], 1)
    filled = _double(_double(_extend(coarse), 0), 1)[:h, :w]
    return weighted[..., :3] + (1 - weight) * filled
