"""MAE and the scores of a map at thresholds: precision, recall, F, E-measure, IoU, accuracy.

Everything is computed from ``counts[2, levels]``, the pixels of a map by mask value and level, and ``values[levels]``,
what each level stands for in 0…1. A pixel is predicted positive at threshold t if its value is ``>= t``. Curves have
256 entries, thresholds 0/255 … 255/255, on values cut to 8 bits.

Let TP, FP, FN, TN be the pixels of a thresholded map, N their sum. Where a quotient would be 0/0 it is 0.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

BETA2 = 0.3
"""β² of the F-measure, precision over recall (Achanta et al., CVPR 2009; equation 3 of the paper)."""

THRESHOLDS = 256
EPSILON = 2.0**-52

Counts = Int[Array, "2 levels"]
Values = Float[Array, " levels"]
Scalar = Float[Array, ""]
Curve = Float[Array, " 256"]


def mean_absolute_error(counts: Counts, values: Values) -> Scalar:
    """Mean over pixels of |map − mask| (Perazzi et al., CVPR 2012; equation 4). Range 0…1, less is better."""
    background, foreground = counts
    return (jnp.dot(background, values) + jnp.dot(foreground, 1 - values)) / counts.sum()


def mean_value(counts: Counts, values: Values) -> Scalar:
    """Mean of the map."""
    return jnp.dot(counts.sum(0), values) / counts.sum()


def cumulative(counts: Counts, values: Values) -> Int[Array, "2 256"]:
    """Pixels predicted positive at every threshold: false positives, true positives."""
    bins = jnp.floor(values * (THRESHOLDS - 1)).astype(jnp.int32).clip(0, THRESHOLDS - 1)
    by_bin = jnp.zeros((2, THRESHOLDS), counts.dtype).at[:, bins].add(counts)
    return jnp.cumsum(by_bin[:, ::-1], axis=1)[:, ::-1]


def positives(counts: Counts, values: Values, threshold: Scalar | float, *, strict: bool = False) -> Int[Array, "2"]:
    """False and true positives at one threshold; ``strict`` asks for values greater than it."""
    chosen = values > threshold if strict else values >= threshold
    return jnp.where(chosen, counts, 0).sum(1)


def adaptive_threshold(counts: Counts, values: Values) -> Scalar:
    """Twice the mean of the map, at most 1 (Achanta et al., CVPR 2009)."""
    return jnp.minimum(2 * mean_value(counts, values), 1.0)


def precision_recall(positive: Int[Array, "2 ..."], counts: Counts) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Precision TP / (TP + FP) and recall TP / (TP + FN), both 0…1.

    Where nothing is predicted precision is 0; of an empty mask both are 0. Of a full mask precision is 1 wherever
    anything is predicted.
    """
    predicted, true = positive.sum(0), positive[1]
    return true / jnp.maximum(predicted, 1), true / jnp.maximum(counts[1].sum(), 1)


def f_measure(precision: Float[Array, "..."], recall: Float[Array, "..."]) -> Float[Array, "..."]:
    """(1 + β²) · P · R / (β² · P + R) with β² = 0.3. Range 0…1; 0 where P or R is (so of any empty mask)."""
    product = (1 + BETA2) * precision * recall
    return product / jnp.where(product == 0, 1, BETA2 * precision + recall)


def e_measure(positive: Int[Array, "2 ..."], counts: Counts) -> Float[Array, "..."]:
    """Enhanced-alignment measure of thresholded maps (Fan et al., IJCAI 2018).

    With the deviations a, b of map and mask from their means, every pixel scores (1 + 2ab / (a² + b²))² / 4; the sum
    is divided by N − 1, as the authors' code does. Range 0 … N / (N − 1). Of an empty mask the share of pixels not
    predicted, of a full one the share predicted.
    """
    total, mask_size = counts.sum(), counts[1].sum()
    false_positive, true_positive = positive
    predicted = false_positive + true_positive
    false_negative = mask_size - true_positive
    true_negative = total - predicted - false_negative
    mean_map, mean_mask = predicted / total, mask_size / total

    def aligned(a, b):
        return (2 * a * b / (a**2 + b**2 + EPSILON) + 1) ** 2 / 4

    alignment = (
        true_positive * aligned(1 - mean_map, 1 - mean_mask)
        + false_positive * aligned(1 - mean_map, -mean_mask)
        + false_negative * aligned(-mean_map, 1 - mean_mask)
        + true_negative * aligned(-mean_map, -mean_mask)
    )
    alignment = jnp.where(mask_size == 0, total - predicted, alignment)
    alignment = jnp.where(mask_size == total, predicted, alignment)
    return alignment / jnp.maximum(total - 1, 1)


def iou(positive: Int[Array, "2"], counts: Counts) -> Scalar:
    """Intersection over union TP / (TP + FP + FN), 0…1; 0 of an empty mask, also where nothing is predicted."""
    return positive[1] / jnp.maximum(positive[0] + counts[1].sum(), 1)


def accuracy(positive: Int[Array, "2"], counts: Counts) -> Scalar:
    """Share of pixels on the right side, (TP + TN) / N, 0…1."""
    return (positive[1] + counts[0].sum() - positive[0]) / counts.sum()
