"""S-measure: how much a map resembles its mask as an object and region by region (Fan et al., ICCV 2017)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from afiu_jax.metrics.curves import EPSILON, Scalar, Values, mean_value

ALPHA = 0.5
"""Weight of the object part against the regions, as published."""


def s_measure(counts: Int[Array, "4 2 levels"], values: Values) -> Scalar:
    """α · object + (1 − α) · region with α = 0.5, not below 0. Range 0…1.

    Of an empty mask 1 − mean(map), of a full one mean(map). A quadrant without pixels (the mask's centroid lies on
    the last row or column) adds nothing, where PySODMetrics returns NaN. A quadrant in which map and mask are both
    constant scores 1.

    Args:
        counts: see ``counts.joint_counts``.
        values: what each level stands for, 0…1.
    """
    whole = counts.sum(0)
    mask_size, total = whole[1].sum(), whole.sum()
    mean = mean_value(whole, values)
    weights = counts.sum((1, 2)) / total
    regions = jnp.dot(weights, jax.vmap(_region, (0, None))(counts, values))
    score = jnp.maximum(ALPHA * _objects(whole, values) + (1 - ALPHA) * regions, 0)
    return jnp.where(mask_size == 0, 1 - mean, jnp.where(mask_size == total, mean, score))


def _objects(counts: Int[Array, "2 levels"], values: Values) -> Scalar:
    """How uniformly high the map is on the target and how uniformly low beside it, weighted by their sizes."""
    share = counts[1].sum() / counts.sum()
    return share * _object(counts[1], values) + (1 - share) * _object(counts[0], 1 - values)


def _object(counts: Int[Array, " levels"], values: Values) -> Scalar:
    """2x̄ / (x̄² + 1 + σ) with the mean and the sample deviation of the values in one part."""
    size = counts.sum()
    mean = jnp.dot(counts, values) / jnp.maximum(size, 1)
    deviation = jnp.sqrt(jnp.dot(counts, (values - mean) ** 2) / jnp.maximum(size - 1, 1))
    return 2 * mean / (mean**2 + 1 + deviation + EPSILON)


def _region(counts: Int[Array, "2 levels"], values: Values) -> Float[Array, ""]:
    """Structural similarity 4x̄ȳσ_xy / ((x̄² + ȳ²)(σ_x² + σ_y²)) of map x and mask y in one quadrant."""
    size, levels = jnp.maximum(counts.sum(), 1), counts.sum(0)
    x, y = jnp.dot(levels, values) / size, counts[1].sum() / size
    freedom = size - 1 + EPSILON
    variance_x = jnp.dot(levels, (values - x) ** 2) / freedom
    variance_y = (counts[1].sum() * (1 - y) ** 2 + counts[0].sum() * y**2) / freedom
    covariance = (jnp.dot(counts[1], values - x) * (1 - y) - jnp.dot(counts[0], values - x) * y) / freedom
    similarity = 4 * x * y * covariance / ((x**2 + y**2) * (variance_x + variance_y) + EPSILON)
    # Decided from the integers: rounding leaves a constant map a variance of 1e-33, which would turn 1 into 0.
    constant_x = (levels > 0).sum() <= 1
    constant_y = (counts.sum(1) > 0).sum() <= 1
    both_zero = x + y == 0
    return jnp.where((constant_x & constant_y) | both_zero, 1.0, jnp.where(constant_x | constant_y, 0.0, similarity))
