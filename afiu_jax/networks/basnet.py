"""BASNet (Qin et al., CVPR 2019): a predict module, which is a U-Net on ResNet-34, and a module that refines its map.

Predict: encoder1…encoder6 (ResNet-34's four levels at full resolution and two more), a dilated bridge, and
decoder6…decoder1, D_x = decode([up(D_{x+1}) ‖ E_x]). The bridge and each decoder give a side map at the image's size.
Refine: the first side map's logits plus what a small U-Net makes of them are the logits of the final map.
"""

from functools import partial
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.batch_norm import batch_norm
from afiu_jax.blocks.resnet import BasicBlock, Level
from afiu_jax.initializers import Streams
from afiu_jax.layers import ConvFactory, ConvNormReLU, NormFactory, conv, resize
from afiu_jax.networks.prediction import Prediction
from afiu_jax.networks.sizes import LegalSizes
from afiu_jax.pooling import max_pool_ceil
from afiu_jax.side_by_side import SideBySide

LEVELS = (1, 2, 3, 4, 5, 6)

SMALL = {"width": 12, "depths": (1, 1, 1, 1, 1, 1), "refine_width": 16}
"""BASNet with a fifth of the channels and one block a level: 1.8 million parameters, for CPUs."""


class BASNet(nnx.Module):
    """Boundary-aware network; 87,060,360 trainable parameters with the default options.

    Args:
        width: channels of encoder1; encoder2 has 2, encoder3 4, the deeper ones 8 times as many. 64 is ResNet-34.
        depths: basic blocks of encoder1…encoder6; (3, 4, 6, 3) is ResNet-34.
        refine_width: channels of the refinement module.
        dtype: compute type; weights stay float32.
        rngs: random streams for the initial weights: He for encoder1…encoder4, PyTorch's default elsewhere.
    """

    # The decoder doubles each level, so that every level must be exactly twice the next.
    sizes = LegalSizes(multiple=32, least=32)
    normalization = "max-imagenet"
    presets: ClassVar = {"small": SMALL}

    def __init__(
        self,
        *,
        width: int = 64,
        depths: tuple[int, int, int, int, int, int] = (3, 4, 6, 3, 3, 3),
        refine_width: int = 64,
        dtype: str = "float32",
        rngs: Streams,
    ):
        factories = {
            "conv": partial(conv, dtype=dtype, rngs=rngs),
            "norm": partial(batch_norm, dtype=dtype, rngs=rngs),
        }
        resnet = {**factories, "conv": partial(factories["conv"], init="he_fan_out")}
        features = [width * factor for factor in (1, 2, 4, 8, 8, 8)]
        above = [width, *features[:-1]]
        self.stem = ConvNormReLU(3, width, **factories)
        for x, depth, in_features, out in zip(LEVELS, depths, above, features, strict=True):
            stride = 2 if x in (2, 3, 4) else 1
            level = Level(in_features, out, depth, stride=stride, block=BasicBlock, **(resnet if x <= 4 else factories))
            setattr(self, f"encoder{x}", level)
        deepest = features[-1]
        self.bridge = _units((deepest, deepest, deepest, deepest), dilations=(2, 2, 2), **factories)
        self.side_bridge = factories["conv"](deepest, 1, 3)
        self.beside = SideBySide()
        for x in reversed(LEVELS):
            inside, out = features[x - 1], above[x - 1]
            dilations = (1, 2, 2) if x == 6 else (1, 1, 1)
            setattr(self, f"decoder{x}", _units((2 * inside, inside, inside, out), dilations=dilations, **factories))
            setattr(self, f"side{x}", factories["conv"](out, 1, 3))
        self.refine = Refinement(refine_width, **factories)

    def __call__(self, image: Float[Array, "b h w 3"]) -> Prediction:
        """Logits of a batch of normalised images, all at the images' size: the refined map, side1…side6, the bridge's.

        Raises:
            ValueError: a height or width that is not a multiple of 32.
        """
        stages = self.stages(image)
        sides = (*(stages[f"side{x}"] for x in LEVELS), stages["side_bridge"])
        return Prediction(stages["logits"], sides)

    def stages(self, image: Float[Array, "b h w 3"]) -> dict[str, Float[Array, "b _h _w _c"]]:
        """Every named intermediate: encoder1…encoder6, bridge, decoder6…decoder1, side_bridge, side6…side1, logits.

        Raises:
            ValueError: a height or width that is not a multiple of 32.
        """
        self.sizes.require(image.shape[1:3], "basnet")
        out = {}
        x = self.stem(image)
        for i in LEVELS:
            x = out[f"encoder{i}"] = getattr(self, f"encoder{i}")(max_pool_ceil(x) if i > 4 else x)
        x = out["bridge"] = self.bridge(x)
        out["side_bridge"] = self._side("side_bridge", x, image)
        for i in reversed(LEVELS):
            skip = out[f"encoder{i}"]
            x = self.beside(resize(x, skip.shape[1:3]), skip)
            x = out[f"decoder{i}"] = getattr(self, f"decoder{i}")(x)
            out[f"side{i}"] = self._side(f"side{i}", x, image)
        out["logits"] = out["side1"] + self.refine(out["side1"]).astype(jnp.float32)
        return out

    def _side(self, name: str, x: Float[Array, "b _h _w c"], image: Float[Array, "b h w 3"]) -> Float[Array, "b h w 1"]:
        """The side map of a decoder's or the bridge's output."""
        return resize(getattr(self, name)(x), image.shape[1:3]).astype(jnp.float32)


class Refinement(nnx.Module):
    """The residual of BASNet's refinement module: a U-Net of one width, with four poolings, from logits to logits.

    ``embed`` alone has neither normalisation nor ReLU.

    Args:
        width: channels inside.
        conv: bound convolution factory.
        norm: bound normalisation factory.
    """

    def __init__(self, width: int, *, conv: ConvFactory, norm: NormFactory):
        unit = partial(ConvNormReLU, conv=conv, norm=norm)
        self.embed = conv(1, width, 3)
        self.encode = nnx.List(unit(width, width) for _ in range(4))
        self.bottom = unit(width, width)
        self.beside = SideBySide()
        self.decode = nnx.List(unit(2 * width, width) for _ in range(4))
        self.head = conv(width, 1, 3)

    def __call__(self, logits: Float[Array, "b h w 1"]) -> Float[Array, "b h w 1"]:
        """What to add to the logits."""
        x = self.embed(logits)
        skips = []
        for encode in self.encode:
            x = encode(x)
            skips.append(x)
            x = max_pool_ceil(x)
        x = self.bottom(x)
        for decode, skip in zip(self.decode, reversed(skips), strict=True):
            x = decode(self.beside(resize(x, skip.shape[1:3]), skip))
        return self.head(x)


def _units(widths: tuple[int, ...], *, dilations: tuple[int, ...], **factories) -> nnx.Sequential:
    """A row of ConvNormReLU from each width to the next."""
    return nnx.Sequential(
        *(
            ConvNormReLU(i, o, dilation=d, **factories)
            for i, o, d in zip(widths[:-1], widths[1:], dilations, strict=True)
        )
    )
