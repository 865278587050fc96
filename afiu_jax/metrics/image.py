"""All scores of every image of a batch, jitted: what depends on pixels, and what follows from their counts."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float64, UInt

from afiu_jax.metrics import curves
from afiu_jax.metrics.counts import joint_counts
from afiu_jax.metrics.structure import s_measure
from afiu_jax.metrics.weighted import Surroundings, weighted_f

ImageScores = dict[str, Array]
"""Scalars ``[b]`` and curves ``[b, 256]`` by name; curves are ``precision``, ``recall``, ``f`` and ``e_measure``."""

CURVES = ("precision", "recall", "f", "e_measure")


def score_images(
    levels: UInt[Array | np.ndarray, "b h w"],
    masks: Bool[Array | np.ndarray, "b h w"],
    valid: Bool[Array | np.ndarray, "b h w"],
    values: Float64[np.ndarray, "b levels"],
    around: Surroundings | None = None,
) -> ImageScores:
    """Scores of each image of a batch, computed in float64 whatever the session's default.

    Images smaller than ``h`` × ``w`` are padded on the right and below: ``valid`` excludes the padding, whose
    content then has no influence. What looks at pixels, counts and the weighted F, is compiled for each shape; the
    other scores, which take longer to compile, for each number of images and of levels.

    Args:
        levels: the maps, 0 … levels − 1.
        masks: the targets' pixels.
        valid: pixels that count.
        values: what each level of each map stands for, 0…1, see ``counts.level_values``.
        around: see ``weighted.surroundings``, of each image; without it, ``weighted_f`` is not computed.

    Returns:
        Float64 arrays by name, still on their way if the device is busy.

    Raises:
        ValueError: levels that are no integers, masks that are no booleans.
    """
    if not jnp.issubdtype(levels.dtype, jnp.unsignedinteger) or masks.dtype != bool:
        raise ValueError(f"levels are unsigned integers and masks bool, not {levels.dtype} and {masks.dtype}")
    with jax.enable_x64():
        quadrants, weighted = _count_images(levels, masks, valid, values, around)
        return _score_counts(quadrants, values) | weighted


# Both go through the images one after the other: batched scatters and gathers are many times slower on a CPU.
@jax.jit
def _count_images(*batch) -> tuple[Array, ImageScores]:
    return jax.lax.map(lambda image: _count_image(*image), batch)


@jax.jit
def _score_counts(*batch) -> ImageScores:
    return jax.lax.map(lambda image: _from_counts(*image), batch)


def _count_image(levels, mask, valid, values, around) -> tuple[Array, ImageScores]:
    quadrants = joint_counts(levels, mask, valid, num_levels=len(values))
    return quadrants, {} if around is None else {"weighted_f": weighted_f(levels, values, mask, valid, around)}


def _from_counts(quadrants: Array, values: Array) -> ImageScores:
    counts = quadrants.sum(0)
    precision, recall = curves.precision_recall(above := curves.cumulative(counts, values), counts)
    adaptive = curves.positives(counts, values, curves.adaptive_threshold(counts, values))
    half = curves.positives(counts, values, 0.5, strict=True)
    return {
        "mae": curves.mean_absolute_error(counts, values),
        "adaptive_f": curves.f_measure(*curves.precision_recall(adaptive, counts)),
        "f_at_half": curves.f_measure(*curves.precision_recall(half, counts)),
        "s_measure": s_measure(quadrants, values),
        "e_measure_adaptive": curves.e_measure(adaptive, counts),
        "iou": curves.iou(half, counts),
        "accuracy": curves.accuracy(half, counts),
        "precision": precision,
        "recall": recall,
        "f": curves.f_measure(precision, recall),
        "e_measure": curves.e_measure(above, counts),
    }
