"""VGG-16 as five feature levels (Simonyan and Zisserman 2015), with batch normalisation or without.

=====  ======================  ======  ========
level  content                 stride  channels
=====  ======================  ======  ========
E1     2 units                 1       64
E2     pooling, 2 units        2       128
E3     pooling, 3 units        4       256
E4     pooling, 3 units        8       512
E5     pooling, 3 units        16      512
=====  ======================  ======  ========

A unit is a 3×3 convolution, normalised or not, and ReLU. The last pooling and the classifier are left out.
"""

from collections.abc import Callable

from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.layers import UnitFactory

Pool = Callable[[Float[Array, "b h w c"]], Float[Array, "b h2 w2 c"]]


class VGGLevel(nnx.Module):
    """A row of 3×3 units; all levels but the first pool before.

    Args:
        in_features: channels of the input.
        out: channels of every unit.
        depth: number of units.
        pool: 2×2 pooling that comes first; None: none.
        unit: bound factory of a unit without its ReLU: ``ConvNorm`` or ``conv``.
    """

    def __init__(self, in_features: int, out: int, depth: int, *, pool: Pool | None, unit: UnitFactory):
        self.pool = pool
        self.units = nnx.List(unit(out if i else in_features, out, 3) for i in range(depth))

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """``out`` channels, at half the size if the level pools."""
        if self.pool is not None:
            x = self.pool(x)
        for unit in self.units:
            x = nnx.relu(unit(x))
        return x


def vgg_levels(
    *, width: int = 64, depths: tuple[int, int, int, int, int] = (2, 2, 3, 3, 3), pool: Pool, unit: UnitFactory
) -> tuple[VGGLevel, ...]:
    """The five levels E1…E5, each a module to be applied to the output of the one before.

    Args:
        width: channels of E1; 64 is VGG-16.
        depths: units of E1…E5; (2, 2, 3, 3, 3) is VGG-16.
        pool: 2×2 pooling between the levels; VGG's own is by the maximum.
        unit: as of ``VGGLevel``.
    """
    channels = vgg_channels(width)
    return tuple(
        VGGLevel(in_features, out, depth, pool=pool if i else None, unit=unit)
        for i, (in_features, out, depth) in enumerate(zip((3, *channels[:-1]), channels, depths, strict=True))
    )


def vgg_channels(width: int = 64) -> tuple[int, ...]:
    """Channels of E1…E5 for a first level of ``width`` channels."""
    return tuple(width * factor for factor in (1, 2, 4, 8, 8))
