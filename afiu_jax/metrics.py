"""MAE and max F of maps against masks, as sums that merge over batches, devices and processes. Pure jnp.

*MAE* (equation 4) is the mean absolute error per image, averaged over images.

*max F* (equation 3, β² = 0.3) is read off the precision-recall curve of the data set: precision and recall at every
8-bit threshold are averaged over images first, F follows per threshold, and the maximum is taken. This is the
definition of MINet's evaluation and of the classical saliency toolboxes; scoring all pixels of a data set in one pool
gives other numbers, as does averaging F per image.
"""

import flax.struct
import jax
import jax.numpy as jnp
from clu import metrics as clu_metrics
from jaxtyping import Array, Float

BETA2 = 0.3
LEVELS = 256


@flax.struct.dataclass
class SaliencyScores(clu_metrics.Metric):
    """Sums over images from which MAE and the curves follow; merges by addition.

    Attributes:
        absolute_error: sum over images of the mean absolute error.
        precision: sums over images of precision at thresholds 0…255.
        recall: sums over images of recall at thresholds 0…255.
        count: number of images.
    """

    absolute_error: Float[Array, ""]
    precision: Float[Array, " 256"]
    recall: Float[Array, " 256"]
    count: Float[Array, ""]

    @classmethod
    def empty(cls) -> "SaliencyScores":
        """The scores of no image."""
        zero, curve = jnp.zeros(()), jnp.zeros(LEVELS)
        return cls(absolute_error=zero, precision=curve, recall=curve, count=zero)

    @classmethod
    def from_maps(
        cls,
        maps: Float[Array, "b h w 1"],
        masks: Float[Array, "b h w 1"],
        weight: Float[Array, " b"] | None = None,
        valid: Float[Array, "b h w 1"] | None = None,
    ) -> "SaliencyScores":
        """Scores of a batch.

        Args:
            maps: predictions in 0…1; they are rounded to 8 bits, as maps on disk are.
            masks: 0 or 1.
            weight: 1 for images that count, 0 for the padding of a batch; all count if None.
            valid: 1 for pixels that count, 0 for the padding of an image; all count if None.
        """
        weight = jnp.ones(maps.shape[0]) if weight is None else weight
        valid = jnp.ones_like(maps) if valid is None else valid
        level = jnp.round(maps * (LEVELS - 1))
        errors = jnp.abs(level / (LEVELS - 1) - masks) * valid
        absolute_error = errors.sum((1, 2, 3)) / valid.sum((1, 2, 3))
        precision, recall = jax.vmap(_curves)(level.astype(jnp.int32), masks, valid)
        return cls(
            absolute_error=(absolute_error * weight).sum(),
            precision=(precision * weight[:, None]).sum(0),
            recall=(recall * weight[:, None]).sum(0),
            count=weight.sum(),
        )

    def merge(self, other: "SaliencyScores") -> "SaliencyScores":
        """The scores of both sets of images."""
        return jax.tree.map(jnp.add, self, other)

    def compute(self) -> dict[str, Float[Array, ""]]:
        """``mae`` and ``max_f``, both in 0…1; NaN of no image."""
        precision, recall = self.precision / self.count, self.recall / self.count
        return {"mae": self.absolute_error / self.count, "max_f": f_measure(precision, recall).max()}


def f_measure(precision: Float[Array, "..."], recall: Float[Array, "..."]) -> Float[Array, "..."]:
    """F with β² = 0.3 (Achanta et al. 2009; equation 3); 0 where precision and recall are both 0."""
    return (1 + BETA2) * precision * recall / jnp.maximum(BETA2 * precision + recall, 1e-12)


def _curves(level: Array, mask: Array, valid: Array) -> tuple[Array, Array]:
    """Precision and recall of one image at thresholds 0…255 (a pixel is positive at ``level >= threshold``).

    Nothing predicted gives precision 0, and an empty mask recall 0.
    """
    level, mask, valid = level.ravel(), mask.ravel(), valid.ravel()
    histogram = jnp.zeros((2, LEVELS)).at[0, level].add(mask * valid).at[1, level].add(valid)
    true_positive, positive = jnp.cumsum(histogram[:, ::-1], axis=1)[:, ::-1]
    return true_positive / jnp.maximum(positive, 1), true_positive / jnp.maximum((mask * valid).sum(), 1)
