"""Losses on logits. Pure functions of arrays."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from afiu_jax.layers import resize
from afiu_jax.networks.prediction import Prediction


def binary_cross_entropy(logits: Float[Array, "b h w 1"], mask: Float[Array, "b h w 1"]) -> Float[Array, ""]:
    """Pixel-wise binary cross-entropy, averaged over all pixels of the batch (equation 2 of the paper).

    The paper sums over the pixels. Adam divides the gradient by its own scale, so the factor between sum and mean
    leaves its steps unchanged, and the mean does not depend on the image size.
    """
    return optax.sigmoid_binary_cross_entropy(logits, mask).mean()


def final_map_loss(prediction: Prediction, mask: Float[Array, "b h w 1"]) -> Float[Array, ""]:
    """Cross-entropy of the final map; the logits are resized to the mask where their sizes differ."""
    return binary_cross_entropy(resize(prediction.logits.astype(jnp.float32), mask.shape[1:3]), mask)


LOSSES = {"bce": final_map_loss}
"""The losses by the name that ``config.loss.name`` uses."""

DEFAULT_LOSS = {"afiu": "bce"}
"""What ``loss.name = auto`` means for each network: the loss it was published with."""
