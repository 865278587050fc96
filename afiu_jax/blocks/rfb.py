"""RFB, the receptive field block (Liu et al., ECCV 2018), in the form that CPD (Wu et al., CVPR 2019) gave it."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.layers import UnitFactory

SIDES = (3, 5, 7)


class RFB(nnx.Module):
    """``ReLU(gather([b_0 ‖ b_3 ‖ b_5 ‖ b_7]) + identity(x))``, a map seen through windows of four sizes.

    b_0 is a 1×1 unit; b_k is a 1×1 unit, one of 1×k, one of k×1, and one of 3×3 dilated by k. ``gather`` is a 3×3
    unit, ``identity`` a 1×1 one. Between the units there is no ReLU.

    Args:
        in_features: channels of the input.
        out: channels of every unit.
        unit: bound factory: ``ConvNorm`` on ResNet, ``conv`` on VGG.
    """

    def __init__(self, in_features: int, out: int = 32, *, unit: UnitFactory):
        def branch(k: int) -> nnx.Sequential:
            window = (unit(out, out, (1, k)), unit(out, out, (k, 1)), unit(out, out, 3, dilation=k)) if k > 1 else ()
            return nnx.Sequential(unit(in_features, out, 1), *window)

        self.branches = nnx.List(branch(k) for k in (1, *SIDES))
        self.gather = unit(len(self.branches) * out, out, 3)
        self.identity = unit(in_features, out, 1)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        """``out`` channels at the size of the input."""
        windows = [branch(x) for branch in self.branches]
        return nnx.relu(self.gather(jnp.concatenate(windows, axis=-1)) + self.identity(x))
