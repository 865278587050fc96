"""MINet (Pang et al., CVPR 2020) on ResNet-50 and on VGG-16: multi-scale interaction between and within levels.

A backbone gives five levels E1…E5. Each is aggregated with its neighbours (AIM); from the deepest up, the sum of an
AIM and the decoded level below interacts with itself at two scales (SIM) and is fused: D5 = fuse(SIM(AIM5)),
D_x = fuse(SIM(AIM_x + up(D_{x+1}))). A 1×1 convolution gives the logits. ResNet-50's E1 has half of the image's size,
and so one more unit, D0, stands between D1, enlarged, and that convolution.
"""

from functools import partial
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.batch_norm import batch_norm
from afiu_jax.blocks.aim import AIM, neighbours
from afiu_jax.blocks.resnet import level_channels, resnet_levels, run_levels
from afiu_jax.blocks.sim import SIM
from afiu_jax.blocks.vgg import vgg_channels, vgg_levels
from afiu_jax.initializers import Streams
from afiu_jax.layers import ConvFactory, ConvNorm, ConvNormReLU, NormFactory, conv, resize
from afiu_jax.networks.prediction import Prediction
from afiu_jax.networks.sizes import LegalSizes
from afiu_jax.pooling import max_pool_ceil

LEVELS = (1, 2, 3, 4, 5)

SMALL_RES50 = {"width": 8, "depths": (1, 2, 2, 1), "aim_mid_cap": 16}
SMALL_VGG16 = {"width": 8, "channels": 48, "aim_mid_cap": 32}
"""The same graphs with 1.6 and 1.1 million parameters, for CPUs."""


class MINet(nnx.Module):
    """What the two networks share; sub-modules are E1…E5, AIM1…AIM5, SIM1…SIM5, fusion5…fusion1 (0), head.

    Args:
        levels: the backbone's modules.
        features: channels of E1…E5.
        widths: channels of AIM1…AIM5, halved in the low branch of each level's SIM.
        finest: channels of fusion1 and of what follows it.
        aim_mid_cap: upper bound of the channels inside AIM.
        conv: bound convolution factory.
        norm: bound normalisation factory.
    """

    name: ClassVar[str]
    stride: ClassVar[int]  # of E1
    sizes: ClassVar[LegalSizes]
    normalization = "imagenet"

    def __init__(
        self,
        levels: tuple[nnx.Module, ...],
        features: tuple[int, ...],
        widths: tuple[int, int, int, int, int],
        finest: int,
        *,
        aim_mid_cap: int | None,
        conv: ConvFactory,
        norm: NormFactory,
    ):
        factories = {"conv": conv, "norm": norm}
        fusion = partial(ConvNormReLU, bias=False, **factories)
        for x, level in zip(LEVELS, levels, strict=True):
            setattr(self, f"E{x}", level)
        for x, width in zip(LEVELS, widths, strict=True):
            branches, main = neighbours(features, x - 1)
            inputs = {b: features[i] for b, i in branches.items()}
            setattr(self, f"AIM{x}", AIM(inputs, main, width, mid_cap=aim_mid_cap, **factories))
        for x, width, above in zip(LEVELS, widths, (finest, *widths[:-1]), strict=True):
            setattr(self, f"SIM{x}", SIM(width, width // 2, **factories))
            setattr(self, f"fusion{x}", fusion(width, above))
        if self.stride > 1:
            self.fusion0 = fusion(finest, finest)
        self.head = conv(finest, 1, 1)

    def __call__(self, image: Float[Array, "b h w 3"]) -> Prediction:
        """Logits of a batch of normalised images.

        Raises:
            ValueError: a height or width that is not legal, see ``sizes``.
        """
        return Prediction(self.stages(image)["logits"])

    def stages(self, image: Float[Array, "b h w 3"]) -> dict[str, Float[Array, "b _h _w _c"]]:
        """Every named intermediate of the network: E1…, AIM1…, SIM5, D5…SIM1, D1, D0 if there is one, logits.

        Raises:
            ValueError: a height or width that is not legal, see ``sizes``.
        """
        self.sizes.require(image.shape[1:3], self.name)
        levels = run_levels(tuple(getattr(self, f"E{x}") for x in LEVELS), image)
        out = {f"E{x}": level for x, level in zip(LEVELS, levels, strict=True)}
        for x in LEVELS:
            branches, _ = neighbours(LEVELS, x - 1)
            out[f"AIM{x}"] = getattr(self, f"AIM{x}")({b: levels[i] for b, i in branches.items()})
        for x in reversed(LEVELS):
            seen = out[f"AIM{x}"]
            if x != LEVELS[-1]:
                seen = seen + resize(out[f"D{x + 1}"], seen.shape[1:3])
            out[f"SIM{x}"] = getattr(self, f"SIM{x}")(seen)
            decoded = out[f"D{x}"] = getattr(self, f"fusion{x}")(out[f"SIM{x}"])
        if self.stride > 1:
            _, h, w, _ = decoded.shape
            decoded = out["D0"] = self.fusion0(resize(decoded, (self.stride * h, self.stride * w)))
        out["logits"] = self.head(decoded).astype(jnp.float32)
        return out


class MINetRes50(MINet):
    """MINet on ResNet-50; 162,378,305 trainable parameters with the default options.

    Args:
        width: channels of E1; 64 is ResNet-50.
        depths: bottlenecks of E2…E5; (3, 4, 6, 3) is ResNet-50.
        channels: channels of every AIM, SIM and fusion output; fusion1 and fusion0 have half as many.
        aim_mid_cap: upper bound of the channels inside AIM; none as published.
        dtype: compute type; weights stay float32.
        rngs: random streams for the initial weights.
    """

    name = "minet_res50"
    stride = 2
    # E1…E5 are exact doubles at 32k−1 too, where the logits are 32k. SIM5 halves E5 once more.
    sizes = LegalSizes(multiple=32, first=-1, last=0, least=63)
    presets: ClassVar = {"small": SMALL_RES50}

    def __init__(
        self,
        *,
        width: int = 64,
        depths: tuple[int, int, int, int] = (3, 4, 6, 3),
        channels: int = 64,
        aim_mid_cap: int | None = None,
        dtype: str = "float32",
        rngs: Streams,
    ):
        factories = {
            "conv": partial(conv, dtype=dtype, rngs=rngs),
            "norm": partial(batch_norm, dtype=dtype, rngs=rngs),
        }
        super().__init__(
            resnet_levels(width=width, depths=depths, **factories),
            level_channels(width),
            (channels,) * 5,
            channels // 2,
            aim_mid_cap=aim_mid_cap,
            **factories,
        )


class MINetVGG16(MINet):
    """MINet on VGG-16 with batch normalisation; 47,562,737 trainable parameters with the default options.

    Args:
        width: channels of E1; 64 is VGG-16.
        depths: convolutions of E1…E5; (2, 2, 3, 3, 3) is VGG-16.
        channels: channels of every AIM and SIM output; those of level 1 have half as many.
        aim_mid_cap: upper bound of the channels inside AIM; none as published.
        dtype: compute type; weights stay float32.
        rngs: random streams for the initial weights.
    """

    name = "minet_vgg16"
    stride = 1
    sizes = LegalSizes(multiple=16, least=32)
    presets: ClassVar = {"small": SMALL_VGG16}

    def __init__(
        self,
        *,
        width: int = 64,
        depths: tuple[int, int, int, int, int] = (2, 2, 3, 3, 3),
        channels: int = 64,
        aim_mid_cap: int | None = None,
        dtype: str = "float32",
        rngs: Streams,
    ):
        factories = {
            "conv": partial(conv, dtype=dtype, rngs=rngs),
            "norm": partial(batch_norm, dtype=dtype, rngs=rngs),
        }
        unit = partial(ConvNorm, init="he_fan_out", bias_value=0.0, **factories)
        super().__init__(
            # Every size is even here: it is all one whether the pooling rounds up or, as VGG's does, down.
            vgg_levels(width=width, depths=depths, pool=max_pool_ceil, unit=unit),
            vgg_channels(width),
            (channels // 2, *(channels,) * 4),
            channels // 2,
            aim_mid_cap=aim_mid_cap,
            **factories,
        )
