"""Pixels counted by quadrant, mask and level: the integers that all scores but the weighted F are made of."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float64, Int, UInt

QUADRANTS = 4


def joint_counts(
    levels: UInt[Array, "h w"], mask: Bool[Array, "h w"], valid: Bool[Array, "h w"], num_levels: int
) -> Int[Array, "4 2 levels"]:
    """How many pixels have each level, by quadrant around the mask's centroid and by mask value.

    Args:
        levels: the map, 0 … ``num_levels`` − 1.
        mask: the target's pixels.
        valid: pixels that count; the others are padding and are counted nowhere.
        num_levels: 256 for maps of 8 bits.

    Returns:
        Counts, quadrants in the order top left, top right, bottom left, bottom right; mask values 0, 1.
    """
    h, w = levels.shape
    row, column = _centroid(mask & valid)
    quadrant = 2 * (jnp.arange(h) > row)[:, None] + (jnp.arange(w) > column)[None, :]
    cells = 2 * QUADRANTS * num_levels
    cell = (2 * quadrant + mask) * num_levels + levels.astype(jnp.int32)
    cell = jnp.where(valid, cell, cells).ravel()
    counts = jnp.zeros(cells + 1, jnp.int32).at[cell].add(1, mode="promise_in_bounds")
    return counts[:-1].reshape(QUADRANTS, 2, num_levels)


def _centroid(mask: Bool[Array, "h w"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Row and column of the mask's centre, rounded to whole pixels; 0, 0 of an empty mask."""
    rows, columns = mask.sum(1), mask.sum(0)
    total = jnp.maximum(rows.sum(), 1)
    centre = (jnp.dot(count.astype(float), jnp.arange(len(count), dtype=float)) for count in (rows, columns))
    return tuple(jnp.round(place / total) for place in centre)


def level_values(
    lowest: int, highest: int, num_levels: int, *, normalize: bool = False
) -> Float64[np.ndarray, " levels"]:
    """What every level of a map stands for, in 0…1.

    Args:
        lowest: least level of the map.
        highest: greatest level of the map.
        num_levels: 256 for maps of 8 bits.
        normalize: stretch the map to 0…1 (min-max), as MINet's and U²-Net's evaluations and PySODMetrics do. A
            constant map stays as it is.
    """
    values = np.arange(num_levels) / (num_levels - 1)
    if normalize and highest > lowest:
        values = (values - values[lowest]) / (values[highest] - values[lowest])
    return values
