"""SIM, the self-interaction module of MINet (Pang et al., CVPR 2020): one map seen at two resolutions."""

from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.blocks.exchange import Exchange
from afiu_jax.layers import ConvFactory, ConvNormReLU, NormFactory, resize
from afiu_jax.pooling import avg_pool


class SIM(nnx.Module):
    """Splits a map into a full- and a half-resolution branch, lets them interact twice, and adds the input.

    No ReLU follows the residual. Forks of MINet from before 2021-01-18 lack the residual itself, which then sat in
    the network around the module.

    Args:
        high: channels of the input, of the full-resolution branch and of the output.
        low: channels of the half-resolution branch.
        conv: bound convolution factory.
        norm: bound normalisation factory.
    """

    def __init__(self, high: int = 64, low: int = 32, *, conv: ConvFactory, norm: NormFactory):
        factories = {"conv": conv, "norm": norm}
        widths = {"h": high, "l": low}
        self.embed = nnx.Dict({b: ConvNormReLU(high, c, **factories) for b, c in widths.items()})
        self.exchange = Exchange(widths, upsample=resize, **factories)
        self.merge = Exchange(widths, ("h",), upsample=resize, **factories)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """``high`` channels at the size of the input."""
        branches = {"h": self.embed["h"](x), "l": self.embed["l"](avg_pool(x))}
        return self.merge(self.exchange(branches))["h"] + x
