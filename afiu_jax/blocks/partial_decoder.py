"""The partial decoder of CPD (Wu et al., CVPR 2019): three levels, refined by RFBs, become one map."""

from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.layers import ConvFactory, UnitFactory, resize
from afiu_jax.side_by_side import SideBySide


class PartialDecoder(nnx.Module):
    """Multiplies each level by all deeper ones, then concatenates from the deepest up.

    With levels f1 (deepest), f2, f3, u for doubling and every c for a 3×3 unit of its own::

        t2 = c1(u f1) · f2
        t3 = c2(u u f1) · c3(u f2) · f3
        v2 = join2[t2 ‖ c4(u f1)]
        v3 = join3[t3 ‖ c5(u v2)]
        logits = head(mix(v3))

    ``up`` holds c1…c5. There is no ReLU in it. u is bilinear between corner pixels, twice in a row for u u.

    Args:
        features: channels of every level.
        unit: bound factory: ``ConvNorm`` on ResNet, ``conv`` on VGG.
        conv: bound convolution factory, of the last convolution.
    """

    def __init__(self, features: int = 32, *, unit: UnitFactory, conv: ConvFactory):
        self.up = nnx.List(unit(c, c, 3) for c in (features, features, features, features, 2 * features))
        self.beside = SideBySide()
        self.join2 = unit(2 * features, 2 * features, 3)
        self.join3 = unit(3 * features, 3 * features, 3)
        self.mix = unit(3 * features, 3 * features, 3)
        self.head = conv(3 * features, 1, 1)

    def __call__(
        self, f1: Float[Array, "b h w c"], f2: Float[Array, "b 2*h 2*w c"], f3: Float[Array, "b 4*h 4*w c"]
    ) -> Float[Array, "b 4*h 4*w 1"]:
        """Logits at the size of the shallowest level."""
        c1, c2, c3, c4, c5 = self.up
        up_f1 = _double(f1)
        t2 = c1(up_f1) * f2
        t3 = c2(_double(up_f1)) * c3(_double(f2)) * f3
        v2 = self.join2(self.beside(t2, c4(up_f1)))
        v3 = self.join3(self.beside(t3, c5(_double(v2))))
        return self.head(self.mix(v3))


def _double(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    _, h, w, _ = x.shape
    return resize(x, (2 * h, 2 * w), align_corners=True)
