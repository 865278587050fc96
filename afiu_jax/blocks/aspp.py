"""ASPP, atrous spatial pyramid pooling (Chen et al. 2017): one map seen at several distances and as a whole."""

from functools import partial

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.layers import ConvFactory, ConvNormReLU, NormFactory, resize


class ASPP(nnx.Module):
    """A 1×1 unit, 3×3 units of growing dilation and a 1×1 unit of the map's mean, fused by a 3×3 unit.

    Units are convolution without bias, normalisation, ReLU. The mean's unit comes first in the concatenation.

    Args:
        in_features: channels of the input.
        out: channels of every unit.
        dilations: of the 3×3 units.
        conv: bound convolution factory.
        norm: bound normalisation factory.
    """

    def __init__(
        self,
        in_features: int,
        out: int,
        *,
        dilations: tuple[int, ...] = (6, 12, 18),
        conv: ConvFactory,
        norm: NormFactory,
    ):
        unit = partial(ConvNormReLU, bias=False, conv=conv, norm=norm)
        self.whole = unit(in_features, out, 1)
        self.distances = nnx.List(
            [unit(in_features, out, 1), *(unit(in_features, out, 3, dilation=d) for d in dilations)]
        )
        self.fuse = unit((2 + len(dilations)) * out, out, 3)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        """``out`` channels at the size of the input."""
        whole = resize(self.whole(x.mean((1, 2), keepdims=True)), x.shape[1:3])
        return self.fuse(jnp.concatenate([whole, *(unit(x) for unit in self.distances)], axis=-1))
