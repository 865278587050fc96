"""A tenth of U²-Netp, of its blocks: it pools, resizes and dilates, and compiles in a tenth of the time."""

from functools import partial
from typing import ClassVar

import pytest
from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.batch_norm import batch_norm
from afiu_jax.blocks.rsu import RSU
from afiu_jax.layers import conv
from afiu_jax.losses import DEFAULT_LOSS
from afiu_jax.networks import NETWORKS
from afiu_jax.networks.prediction import Prediction
from afiu_jax.networks.sizes import LegalSizes


class TwoRSUs(nnx.Module):
    """An RSU that pools, one that is dilated, and a head."""

    sizes = LegalSizes(multiple=2)
    normalization = "imagenet"
    presets: ClassVar = {}

    def __init__(self, *, rngs: nnx.Rngs):
        parts = {"conv": partial(conv, rngs=rngs), "norm": partial(batch_norm, rngs=rngs)}
        self.pooled = RSU(3, 16, 64, height=4, **parts)
        self.dilated = RSU(64, 16, 64, height=4, dilated=True, **parts)
        self.head = conv(64, 1, 3, rngs=rngs)

    def __call__(self, images: Float[Array, "b h w 3"]) -> Prediction:
        return Prediction(self.head(self.dilated(self.pooled(images))))


def add_two_rsus(patch: pytest.MonkeyPatch) -> None:
    """Adds it to the networks."""
    patch.setitem(NETWORKS, "two_rsus", TwoRSUs)
    patch.setitem(DEFAULT_LOSS, "two_rsus", "bce")
