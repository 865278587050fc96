"""PDCM, SUN's pyramid of dilated convolutions, which refines a backbone level at its own width."""

from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.layers import ConvFactory

DILATIONS = (1, 2, 4, 6)


class PDCM(nnx.Module):
    """``o + Σ_k ReLU(conv_k o)`` with ``o = ReLU(conv x)``; every convolution 3×3 with bias, conv_k dilated.

    Args:
        features: channels of the input, inside and of the output.
        conv: bound convolution factory.
    """

    def __init__(self, features: int, *, conv: ConvFactory):
        self.embed = conv(features, features, 3)
        self.dilated = nnx.List(conv(features, features, 3, dilation=d) for d in DILATIONS)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Shape of the input."""
        x = nnx.relu(self.embed(x))
        return x + sum(nnx.relu(conv(x)) for conv in self.dilated)
