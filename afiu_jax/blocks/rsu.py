"""RSU, the residual U-block of U²-Net (Qin et al., Pattern Recognition 2020): a small U-Net with a residual."""

from functools import partial

from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.layers import ConvFactory, ConvNormReLU, NormFactory, resize
from afiu_jax.pooling import max_pool_ceil
from afiu_jax.side_by_side import SideBySide


class RSU(nnx.Module):
    """RSU-L: ``height`` = L encoding units, L−1 decoding units, and the embedded input added to the output.

    ``embed`` takes the input to ``out`` channels; ``encode`` goes down, with a 2×2 max-pooling before every unit but
    the first; ``bottom`` is dilated by 2 and not pooled; ``decode`` goes up, each unit seeing the one below (resized)
    beside its encoder. RSU-L pools L−2 times, so RSU-2 does not pool at all. U²-Net defines L = 4…7; 2 and 3 follow
    the same rule. Any input size will do, since every resize aims at its skip connection.

    With ``dilated`` (RSU-4F for L = 4) nothing is pooled and unit i is dilated by 2^i instead.

    Args:
        in_features: channels of the input.
        mid: channels inside.
        out: channels of the output.
        height: L, at least 2.
        dilated: dilation in place of pooling.
        conv: bound convolution factory.
        norm: bound normalisation factory.

    Raises:
        ValueError: ``height`` below 2.
    """

    def __init__(
        self,
        in_features: int,
        mid: int,
        out: int,
        *,
        height: int,
        dilated: bool = False,
        conv: ConvFactory,
        norm: NormFactory,
    ):
        if height < 2:
            raise ValueError(f"an RSU has a height of at least 2, not {height}")
        unit = partial(ConvNormReLU, conv=conv, norm=norm)
        dilations = [2**i if dilated else 1 for i in range(height - 1)]
        self.pooled = not dilated
        self.embed = unit(in_features, out)
        self.encode = nnx.List(unit(mid if i else out, mid, dilation=d) for i, d in enumerate(dilations))
        self.bottom = unit(mid, mid, dilation=2 ** (height - 1) if dilated else 2)
        self.beside = SideBySide()
        self.decode = nnx.List(
            unit(2 * mid, mid if i else out, dilation=d) for i, d in reversed(list(enumerate(dilations)))
        )

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        """``out`` channels at the size of the input."""
        x = embedded = self.embed(x)
        skips = []
        for i, encode in enumerate(self.encode):
            x = encode(max_pool_ceil(x) if self.pooled and i else x)
            skips.append(x)
        x = self.bottom(x)
        for decode, skip in zip(self.decode, reversed(skips), strict=True):
            x = decode(self.beside(resize(x, skip.shape[1:3]), skip))
        return x + embedded
