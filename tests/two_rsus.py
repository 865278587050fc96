"""A network with every kind of convolution of U²-Netp, a tenth of them: it compiles in a tenth of the time."""

from functools import partial

from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.batch_norm import batch_norm
from afiu_jax.blocks.rsu import RSU
from afiu_jax.layers import conv


class TwoRSUs(nnx.Module):
    """An RSU that pools, one that is dilated, and a head."""

    def __init__(self, *, rngs: nnx.Rngs):
        parts = {"conv": partial(conv, rngs=rngs), "norm": partial(batch_norm, rngs=rngs)}
        self.pooled = RSU(3, 16, 64, height=4, **parts)
        self.dilated = RSU(64, 16, 64, height=4, dilated=True, **parts)
        self.head = conv(64, 1, 3, rngs=rngs)

    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b h w 1"]:
        """Logits."""
        return self.head(self.dilated(self.pooled(images)))
