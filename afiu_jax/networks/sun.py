"""SUN (Li et al., IEEE Transactions on Multimedia 2020; released as SUCA): a U-Net with channel attention.

A ResNet-50 with a dilated last level gives b0…b4 (the last through ASPP); PDCM refines each at its own width: p0…p4.
The decoder goes up from level 5, D5 = decode(attend(p4)), D_x = decode(attend([p_{x-1} ‖ D_{x+1}])). Every D_x has a
side head with a map of 256×256, and a 1×1 convolution of the first head's features and the other four maps' logits
gives the final one, which is 256×256 for every size of the image.
"""

from functools import partial
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.batch_norm import batch_norm
from afiu_jax.blocks.aspp import ASPP
from afiu_jax.blocks.pdcm import PDCM
from afiu_jax.blocks.resnet import Bottleneck, Level
from afiu_jax.blocks.sun_decoder import DecoderLevel, SideHead, doubling
from afiu_jax.dropout import ChannelDropout
from afiu_jax.initializers import Constant, Streams, declare
from afiu_jax.layers import ConvNormReLU, Kept, conv
from afiu_jax.networks.prediction import Prediction
from afiu_jax.networks.sizes import LegalSizes
from afiu_jax.pooling import max_pool_3x3
from afiu_jax.side_by_side import SideBySide

LEVELS = (1, 2, 3, 4, 5)
SIDE_SIZES = {1: (128, 256), 2: (128,), 3: (128,), 4: (64, 128), 5: (32, 64, 128)}
"""Height and width that the units of each side head are resized to."""

SMALL = {"width": 8, "depths": (1, 1, 1, 1), "channels": 16}
"""SUN with an eighth of the backbone's channels and a quarter of the decoder's, for CPUs: 2.3 million parameters."""


class SUN(nnx.Module):
    """SUN; 115,577,839 trainable parameters with the default options.

    2,136,110 more numbers of the published state dict reach no output: ``unused`` keeps them.

    Args:
        width: channels of the backbone's first convolution; 64 is ResNet-50.
        depths: bottlenecks of layer1…layer4; (3, 4, 6, 3) is ResNet-50.
        channels: unit of the decoder's widths, which are between a quarter and eight times of it.
        dropout: share of channels dropped in training, in ASPP and in every level of the decoder.
        dtype: compute type; weights stay float32.
        rngs: random streams for the initial weights: He with biases of .001, as published.
    """

    # Levels 4 and 3 double exactly, so layer1 must be four times the size of layer3.
    sizes = LegalSizes(multiple=16, first=-3, last=0, least=13)
    normalization = "imagenet"
    presets: ClassVar = {"small": SMALL}

    def __init__(
        self,
        *,
        width: int = 64,
        depths: tuple[int, int, int, int] = (3, 4, 6, 3),
        channels: int = 64,
        dropout: float = 0.1,
        dtype: str = "float32",
        rngs: Streams,
    ):
        bound = {"dtype": dtype, "rngs": rngs}
        backbone = {"conv": partial(conv, **bound), "norm": partial(batch_norm, **bound)}
        factories = {
            "conv": partial(conv, init="he_fan_out", bias_value=0.001, **bound),
            "norm": partial(batch_norm, bias_value=0.001, **bound),
        }
        self.stem = ConvNormReLU(3, width, 7, stride=2, bias=False, init="he_fan_out", **backbone)
        features = [width]
        for x, depth in enumerate(depths, start=1):
            stride, dilation = {1: (1, 1), 4: (1, 2)}.get(x, (2, 1))
            inside = width * 2 ** (x - 1)
            level = Level(features[-1], inside, depth, stride=stride, dilation=dilation, **backbone)
            setattr(self, f"layer{x}", level)
            features.append(inside * Bottleneck.expansion)
        deepest, c = features[-1], channels
        self.aspp = ASPP(deepest, 4 * c, **factories)
        self.aspp_dropout = ChannelDropout(dropout)
        features[-1] = 4 * c
        for x in LEVELS:
            setattr(self, f"pdcm{x - 1}", PDCM(features[x - 1], conv=factories["conv"]))
        widths = {
            5: (2 * c, c, c // 2),
            4: (8 * c, 4 * c, c),
            3: (4 * c, 2 * c, c),
            2: (2 * c, c, c),
            1: (c, c, c // 2),
        }
        deeper = 0
        for x in reversed(LEVELS):
            enlarge = doubling(c, **bound) if x in (3, 4) else None
            level = DecoderLevel(features[x - 1] + deeper, widths[x], dropout=dropout, enlarge=enlarge, **factories)
            setattr(self, f"D{x}", level)
            deeper = widths[x][-1]
        for x in LEVELS:
            inside = c // 2 if x == 1 else c // 4
            setattr(self, f"side{x}", SideHead(widths[x][-1], inside, SIDE_SIZES[x], **factories))
        self.beside = SideBySide()
        self.fuse = conv(c // 2 + len(LEVELS) - 1, 1, 1, bias_value=0.001, **bound)
        self.unused = _unused(deepest, c)

    def __call__(self, image: Float[Array, "b h w 3"]) -> Prediction:
        """Logits of a batch of normalised images, all 256×256: the fused map, then side1…side5.

        Raises:
            ValueError: a height or width that is not 16k−3 to 16k.
        """
        stages = self.stages(image)
        return Prediction(stages["logits"], tuple(stages[f"side{x}"] for x in LEVELS))

    def stages(self, image: Float[Array, "b h w 3"]) -> dict[str, Float[Array, "b _h _w _c"]]:
        """Every named intermediate: b0…b4, p0…p4, cam5 D5 … cam1 D1, side1…side5, logits.

        Raises:
            ValueError: a height or width that is not 16k−3 to 16k.
        """
        self.sizes.require(image.shape[1:3], "sun")
        out = {"b0": max_pool_3x3(self.stem(image))}
        for x in (1, 2, 3):
            out[f"b{x}"] = getattr(self, f"layer{x}")(out[f"b{x - 1}"])
        out["b4"] = self.aspp_dropout(self.aspp(self.layer4(out["b3"])))
        for x in LEVELS:
            out[f"p{x - 1}"] = getattr(self, f"pdcm{x - 1}")(out[f"b{x - 1}"])
        for x in reversed(LEVELS):
            level, skip = getattr(self, f"D{x}"), out[f"p{x - 1}"]
            seen = skip if x == LEVELS[-1] else self.beside(skip, out[f"D{x + 1}"])
            out[f"cam{x}"] = level.attend(seen)
            out[f"D{x}"] = level.decode(out[f"cam{x}"])
        features, out["side1"] = self.side1(out["D1"])
        for x in LEVELS[1:]:
            _, out[f"side{x}"] = getattr(self, f"side{x}")(out[f"D{x}"])
        maps = (out[f"side{x}"].astype(features.dtype) for x in LEVELS[1:])
        out["logits"] = self.fuse(jnp.concatenate([features, *maps], axis=-1)).astype(jnp.float32)
        return out


class _KeptLayer(nnx.Module):
    """Weight, of PyTorch's shape, and bias of a layer that is never called."""

    def __init__(self, *shape: int, bias: bool = True):
        init = Constant(0.0)
        self.weight = declare(Kept(init(None, shape)), init)
        if bias:
            self.bias = declare(Kept(init(None, shape[:1])), init)


def _unused(deepest: int, c: int) -> nnx.Dict:
    """The rest of the published state dict: ResNet's classifier and layers that the original makes and never calls."""

    def unit() -> nnx.Dict:
        return nnx.Dict(conv=_KeptLayer(c // 4, c // 4, 3, 3), relu=_KeptLayer(c // 4, bias=False))

    decoded = {1: c // 2, 2: c, 3: c, 4: c, 5: c // 2}
    return nnx.Dict(
        fc=_KeptLayer(1000, deepest),
        conv=_KeptLayer(1, 4 * c, 1, 1),
        upsample_2_2=_KeptLayer(c, c, 4, 4, bias=False),
        upsample_2_5=_KeptLayer(c // 2, c // 2, 4, 4, bias=False),
        conv_p3_up_0=unit(),
        conv_p4_up_0=unit(),
        **{f"cam_down_c{x}": _KeptLayer(1, features, 1, 1) for x, features in decoded.items()},
    )
