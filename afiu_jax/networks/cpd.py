"""CPD (Wu et al., CVPR 2019) on ResNet-50 and on VGG-16: cascaded partial decoders.

A backbone's E1…E3 are shared. From E3 on there are two branches, each with an E4 and an E5 of its own, an RFB on each
of the three levels, and a partial decoder that makes one map of them. Branch 1 is the attention branch: its map,
blurred, weights E3 (holistic attention), and from the weighted E3 branch 2 detects. Nothing shallower than E3 is
decoded: the maps have E3's size and are enlarged.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.batch_norm import batch_norm
from afiu_jax.blocks.holistic_attention import HolisticAttention
from afiu_jax.blocks.partial_decoder import PartialDecoder
from afiu_jax.blocks.resnet import level_channels, resnet_levels, run_levels
from afiu_jax.blocks.rfb import RFB
from afiu_jax.blocks.vgg import vgg_channels, vgg_levels
from afiu_jax.initializers import Streams
from afiu_jax.layers import ConvFactory, ConvNorm, UnitFactory, conv, resize
from afiu_jax.networks.prediction import Prediction
from afiu_jax.networks.sizes import LegalSizes
from afiu_jax.pooling import avg_pool

LEVELS = (1, 2, 3, 4, 5)
SHARED, OWN, DECODED = (1, 2, 3), (4, 5), (3, 4, 5)
ATTENTION, DETECTION = BRANCHES = (1, 2)

SMALL_RES50 = {"width": 8, "depths": (1, 1, 1, 1), "channels": 16}
SMALL_VGG16 = {"width": 8, "channels": 16}
"""The same graphs with 0.6 and 0.7 million parameters, for CPUs."""


class CPD(nnx.Module):
    """What the two networks share.

    Sub-modules are E1…E3, for either branch b E4_b, E5_b, RFB3_b…RFB5_b and decoder_b, and HA.

    Args:
        levels: makes the backbone's five modules; called once for each branch.
        features: channels of E1…E5.
        channels: channels of every RFB.
        unit: bound factory of the convolutions in the RFBs and decoders, normalised or not.
        conv: bound convolution factory, of the decoders' last ones.
    """

    name: ClassVar[str]
    stride: ClassVar[int]  # of E3
    align_corners: ClassVar[bool]  # where the maps are enlarged; the decoders always align them
    sizes: ClassVar[LegalSizes]
    normalization = "imagenet"

    def __init__(
        self,
        levels: Callable[[], tuple[nnx.Module, ...]],
        features: tuple[int, ...],
        channels: int,
        *,
        unit: UnitFactory,
        conv: ConvFactory,
    ):
        own = {b: dict(zip(LEVELS, levels(), strict=True)) for b in BRANCHES}
        for x in SHARED:
            setattr(self, f"E{x}", own[ATTENTION][x])
        for b in BRANCHES:
            for x in OWN:
                setattr(self, f"E{x}_{b}", own[b][x])
            for x in DECODED:
                setattr(self, f"RFB{x}_{b}", RFB(features[x - 1], channels, unit=unit))
            setattr(self, f"decoder_{b}", PartialDecoder(channels, unit=unit, conv=conv))
        self.HA = HolisticAttention()

    def __call__(self, image: Float[Array, "b h w 3"]) -> Prediction:
        """Logits of a batch of normalised images: the detected map and, as a side map, the attention.

        Raises:
            ValueError: a height or width that is not legal, see ``sizes``.
        """
        stages = self.stages(image)
        return Prediction(stages["logits"], (stages["attention"],))

    def stages(self, image: Float[Array, "b h w 3"]) -> dict[str, Float[Array, "b _h _w _c"]]:
        """Every named intermediate: E1…E3, then E4_1…decoder_1, HA, E4_2…decoder_2; attention and logits, enlarged.

        Raises:
            ValueError: a height or width that is not legal, see ``sizes``.
        """
        self.sizes.require(image.shape[1:3], self.name)
        levels = run_levels(tuple(getattr(self, f"E{x}") for x in SHARED), image)
        out = {f"E{x}": level for x, level in zip(SHARED, levels, strict=True)}
        out |= self._branch(ATTENTION, out["E3"])
        out["HA"] = self.HA(nnx.sigmoid(out[f"decoder_{ATTENTION}"]), out["E3"])
        out |= self._branch(DETECTION, out["HA"])
        out["attention"], out["logits"] = (self._enlarge(out[f"decoder_{b}"]) for b in BRANCHES)
        return out

    def _branch(self, b: int, e3: Float[Array, "b h w c"]) -> dict[str, Float[Array, "b _h _w _c"]]:
        """A branch's own intermediates, the last of which is its map's logits, float32, at the size of E3."""
        levels = [e3, *run_levels(tuple(getattr(self, f"E{x}_{b}") for x in OWN), e3)]
        out = {f"E{x}_{b}": level for x, level in zip(OWN, levels[1:], strict=True)}
        refined = {f"RFB{x}_{b}": getattr(self, f"RFB{x}_{b}")(level) for x, level in zip(DECODED, levels, strict=True)}
        decoded = getattr(self, f"decoder_{b}")(*reversed(refined.values()))
        return out | refined | {f"decoder_{b}": decoded.astype(jnp.float32)}

    def _enlarge(self, logits: Float[Array, "b h w 1"]) -> Float[Array, "b _h _w 1"]:
        _, h, w, _ = logits.shape
        return resize(logits, (self.stride * h, self.stride * w), align_corners=self.align_corners)


class CPDRes50(CPD):
    """CPD on ResNet-50 ("CPD-R"); 47,851,075 trainable parameters with the default options.

    Args:
        width: channels of E1; 64 is ResNet-50.
        depths: bottlenecks of E2…E5; (3, 4, 6, 3) is ResNet-50.
        channels: channels of every RFB.
        dtype: compute type; weights stay float32.
        rngs: random streams for the initial weights.
    """

    name = "cpd_res50"
    stride = 8
    align_corners = True
    # The decoders double E5 and E4, so E3 must be four times E5. The maps are 32k.
    sizes = LegalSizes(multiple=32, first=-7, last=0, least=25)
    presets: ClassVar = {"small": SMALL_RES50}

    def __init__(
        self,
        *,
        width: int = 64,
        depths: tuple[int, int, int, int] = (3, 4, 6, 3),
        channels: int = 32,
        dtype: str = "float32",
        rngs: Streams,
    ):
        factories = {
            "conv": partial(conv, dtype=dtype, rngs=rngs),
            "norm": partial(batch_norm, dtype=dtype, rngs=rngs),
        }
        super().__init__(
            partial(resnet_levels, width=width, depths=depths, **factories),
            level_channels(width),
            channels,
            unit=partial(ConvNorm, bias=False, **factories),
            conv=factories["conv"],
        )


class CPDVGG16(CPD):
    """CPD on VGG-16 without normalisation ("CPD"); 29,232,771 trainable parameters with the default options.

    The backbone pools by the mean, although VGG's weights come from pooling by the maximum.

    Args:
        width: channels of E1; 64 is VGG-16.
        depths: convolutions of E1…E5; (2, 2, 3, 3, 3) is VGG-16.
        channels: channels of every RFB.
        narrow_init: initial weights of the RFBs and decoders that are normal with standard deviation .01, as published
            beside a backbone of ImageNet. Off: He's, since with a random backbone the narrow ones, whose maps are
            multiplied with each other, leave the loss where it is for some thirty steps.
        dtype: compute type; weights stay float32.
        rngs: random streams for the initial weights: He for the backbone.
    """

    name = "cpd_vgg16"
    stride = 4
    align_corners = False
    # The decoders double E5 and E4, so E3 must be four times E5. The maps are 16k.
    sizes = LegalSizes(multiple=16, first=0, last=3, least=16)
    presets: ClassVar = {"small": SMALL_VGG16}

    def __init__(
        self,
        *,
        width: int = 64,
        depths: tuple[int, int, int, int, int] = (2, 2, 3, 3, 3),
        channels: int = 32,
        narrow_init: bool = False,
        dtype: str = "float32",
        rngs: Streams,
    ):
        bound = partial(conv, bias_value=0.0, dtype=dtype, rngs=rngs)
        beside = partial(bound, init=0.01 if narrow_init else "he_fan_in")
        super().__init__(
            partial(vgg_levels, width=width, depths=depths, pool=avg_pool, unit=partial(bound, init="he_fan_out")),
            vgg_channels(width),
            channels,
            unit=beside,
            conv=beside,
        )
