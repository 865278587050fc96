"""The step that AIM and SIM share: feature maps of neighbouring resolutions, each summed into the others.

MINet (Pang et al., CVPR 2020) calls it interactive learning. Branches are named as in its weights: ``h`` the highest
resolution, ``m`` the middle one, ``l`` the lowest, each half as large as the one before.
"""

from collections.abc import Callable, Mapping, Sequence

from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.layers import ConvFactory, NormFactory
from afiu_jax.pooling import avg_pool

Branches = dict[str, Float[Array, "b _h _w _c"]]
Upsample = Callable[[Float[Array, "b h w c"], tuple[int, int]], Float[Array, "b h2 w2 c"]]


class Exchange(nnx.Module):
    """``out_b = ReLU(BN(Σ_a conv_a2b(resize(x_a → b))))`` over b itself and the branches next to it.

    The resize comes before the convolution (2×2 average pooling downwards, ``upsample`` upwards), and one
    normalisation follows the sum.

    Args:
        widths: channels of each branch, from the highest resolution to the lowest.
        outputs: names of the branches to compute; all unless told.
        upsample: ``(map, (h, w)) -> map``; nearest in AIM, bilinear in SIM.
        conv: bound convolution factory.
        norm: bound normalisation factory.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        outputs: Sequence[str] | None = None,
        *,
        upsample: Upsample,
        conv: ConvFactory,
        norm: NormFactory,
    ):
        self.upsample = upsample
        names = list(widths)
        self.routes = {
            b: tuple(a for a in names if abs(names.index(a) - names.index(b)) <= 1) for b in outputs or names
        }
        self.conv = nnx.Dict(
            {f"{a}2{b}": conv(widths[a], widths[b], 3) for b, route in self.routes.items() for a in route}
        )
        self.norm = nnx.Dict({b: norm(widths[b]) for b in self.routes})

    def __call__(self, x: Branches) -> Branches:
        """The computed branches, each at its own size."""
        return {
            b: nnx.relu(self.norm[b](sum(self.conv[f"{a}2{b}"](self._fit(x[a], x[b])) for a in route), is_sum=True))
            for b, route in self.routes.items()
        }

    def _fit(self, x: Float[Array, "b h w c"], like: Float[Array, "b h2 w2 c2"]) -> Float[Array, "b h2 w2 c"]:
        """Brings one branch to the size of its neighbour."""
        if x.shape[1:3] == like.shape[1:3]:
            return x
        return avg_pool(x) if x.shape[1] > like.shape[1] else self.upsample(x, like.shape[1:3])
