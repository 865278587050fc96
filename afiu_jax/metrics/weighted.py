"""Weighted F-measure: errors count by where they are (Margolin, Zelnik-Manor, Tal, CVPR 2014)."""

from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, UInt, UInt16

from afiu_jax.metrics.curves import EPSILON, Scalar

_HALF, _SIGMA = 3, 5.0  # a Gaussian of 7×7 pixels
_FAR = np.log(0.5) / 5  # a false alarm's weight goes from 1 to 2, halfway at 5 pixels from the target

_REACH = 2 * _HALF**2
"""Squared distance of the Gaussian's corner: pixels farther from the target than this spread no error into it."""

_MARGIN = int(_REACH**0.5)  # of a picture in which an offset of that length stays inside


def _offsets() -> Int32[np.ndarray, "distances 8 2"]:
    """Row and column offsets of each squared distance up to ``_REACH``, least column first, then least row."""
    reach = range(-_MARGIN, _MARGIN + 1)
    by_distance = [[(r, c) for c in reach for r in reach if r * r + c * c == d] for d in range(_REACH + 1)]
    # At most eight, (±1, ±2) and (±2, ±1) for instance; repeating the last one changes nothing.
    return np.array([(found + found[-1:] * 8)[:8] if found else [(0, 0)] * 8 for found in by_distance], np.int32)


class Surroundings(NamedTuple):
    """Where the pixels beside a target are, as far as the weighted F asks.

    Attributes:
        squared_distance: uint16 ``[…, h, w]``, pixels², to the nearest target pixel: 0 on the target, at most 65535
            (256 pixels, beyond which a weight does not grow any more). Anything if there is no target.
        nearest_level: ``[…, h, w]``, the map's level at the nearest target pixel where that is at most ``_REACH``
            away, else 0.
    """

    squared_distance: UInt16[np.ndarray, "*b h w"]
    nearest_level: UInt[np.ndarray, "*b h w"]


_OFFSETS = _offsets()


def surroundings(levels: UInt[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> Surroundings:
    """Distances by OpenCV's exact Euclidean transform, and the levels that they lead to.

    Of several nearest pixels the one in the least column counts, then the one in the least row, as in SciPy's
    transform, which PySODMetrics uses.

    Args:
        levels: the map.
        mask: the target's pixels.
    """
    distance = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distance = np.minimum(distance, 256)  # of an empty mask they are beyond all bounds
    squared = np.rint(np.minimum(distance * distance, np.iinfo(np.uint16).max)).astype(np.uint16)
    nearest_level = np.zeros(levels.shape, levels.dtype)  # by rows, however a caller's array lies in memory
    if mask.any():
        near = np.flatnonzero((squared > 0) & (squared <= _REACH))
        masks, padded = np.pad(mask, _MARGIN), np.pad(levels, _MARGIN)
        row, column = np.divmod(near.astype(np.int32), mask.shape[1])
        place = (row + _MARGIN) * masks.shape[1] + column + _MARGIN
        candidates = place[:, None] + (_OFFSETS @ np.int32([masks.shape[1], 1]))[squared.ravel()[near]]
        first = masks.ravel()[candidates].argmax(1)
        nearest_level.ravel()[near] = padded.ravel()[candidates[np.arange(len(near)), first]]
    return Surroundings(squared, nearest_level)


def weighted_f(
    levels: UInt[Array, "h w"],
    values: Float[Array, " levels"],
    mask: Bool[Array, "h w"],
    valid: Bool[Array, "h w"],
    around: Surroundings,
) -> Scalar:
    """F with β² = 1 of weighted precision and recall. Range 0…1; 0 of an empty mask.

    The error E = |map − mask| of a target pixel is replaced by its neighbourhood's, if that is less (7×7 Gaussian,
    in which a pixel beside the target has the error of the nearest target pixel). A false alarm at distance d weighs
    2 − 2^(−d/5). Then R = 1 − mean(E on target), P = TP / (TP + FP) with the weighted sums.

    Args:
        levels: the map, 0 … levels − 1.
        values: what each level stands for, 0…1, in equal steps.
        mask: the target's pixels.
        valid: pixels that count; the others are padding.
        around: see ``surroundings``, of the same map and mask.
    """
    target, beside = mask & valid, ~mask & valid
    error = jnp.where(valid, jnp.abs(_value(levels, values) - mask), 0.0)
    spread = jnp.where(beside, 1 - _value(around.nearest_level, values), error)
    error = jnp.where(target, jnp.minimum(_smooth(spread), error), error)
    distance = jnp.sqrt(around.squared_distance.astype(values.dtype))
    size = target.sum()
    missed = jnp.where(target, error, 0.0).sum()
    false_alarms = jnp.where(beside, error * (2 - jnp.exp(_FAR * distance)), 0.0).sum()
    hit = size - missed
    recall = 1 - missed / jnp.maximum(size, 1)
    precision = hit / (hit + false_alarms + EPSILON)
    return jnp.where(size == 0, 0.0, 2 * recall * precision / (recall + precision + EPSILON))


def _value(levels: UInt[Array, "h w"], values: Float[Array, " levels"]) -> Float[Array, "h w"]:
    """The map, 0…1; quicker than ``values[levels]``."""
    return values[0] + levels * (values[-1] - values[0]) / (len(values) - 1)


def _smooth(x: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """Gaussian mean of 7×7 pixels, zero outside of the image; rows and columns in turn."""
    taps = np.exp(-(np.arange(-_HALF, _HALF + 1) ** 2) / (2 * _SIGMA**2))
    taps /= taps.sum()
    x = x[None, None]
    for shape in ((-1, 1), (1, -1)):
        x = jax.lax.conv(x, jnp.asarray(taps.reshape(1, 1, *shape), x.dtype), (1, 1), "SAME")
    return x[0, 0]
