"""Weighted F-measure: errors count by where they are (Margolin, Zelnik-Manor, Tal, CVPR 2014)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32, UInt
from scipy.ndimage import distance_transform_edt

from afiu_jax.metrics.curves import EPSILON, Scalar

_HALF, _SIGMA = 3, 5.0  # a Gaussian of 7×7 pixels
_FAR = np.log(0.5) / 5  # a false alarm's weight goes from 1 to 2, halfway at 5 pixels from the target


def nearest_target(
    mask: Bool[np.ndarray, "h w"], out: Int32[np.ndarray, "2 h w"] | None = None
) -> Int32[np.ndarray, "2 h w"]:
    """Row and column of the nearest target pixel of every pixel, by SciPy's Euclidean distance transform.

    Of an empty mask there is none, and zeros are returned.

    Args:
        mask: the target's pixels.
        out: where to write; a new array if None.
    """
    out = np.zeros((2, *mask.shape), np.int32) if out is None else out
    if mask.any():
        distance_transform_edt(~mask, return_distances=False, return_indices=True, indices=out)
    return out


def weighted_f(
    levels: UInt[Array, "h w"],
    values: Float[Array, " levels"],
    mask: Bool[Array, "h w"],
    valid: Bool[Array, "h w"],
    nearest: Int[Array, "2 h w"],
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
        nearest: see ``nearest_target``.
    """
    h, w = mask.shape
    nearest = nearest.astype(jnp.int32)
    target, beside = mask & valid, ~mask & valid
    error = jnp.where(valid, jnp.abs(_value(levels, values) - mask), 0.0)
    place = (nearest[0] * w + nearest[1]).ravel()  # one index instead of two, bytes instead of doubles: half the time
    at_nearest = levels.ravel().at[place].get(mode="promise_in_bounds").reshape(h, w)
    spread = jnp.where(beside, 1 - _value(at_nearest, values), error)
    error = jnp.where(target, jnp.minimum(_smooth(spread), error), error)
    rows, columns = jnp.arange(h)[:, None] - nearest[0], jnp.arange(w)[None, :] - nearest[1]
    distance = jnp.sqrt((rows**2 + columns**2).astype(values.dtype))
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
