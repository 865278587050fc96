"""AFIU, the network of "Defocus Blur Detection via Salient Region Detection Prior" (arXiv 2011.09677, Figure 4).

ResNet-50 gives five levels E1…E5. The encoder at level x aggregates the level with its neighbours (AIM), lets the
result interact with itself at two scales (SIM) and fuses it: EC_x. The decoder is an RSU per level, from the deepest
up: D_5 = RSU(EC_5), D_x = RSU([EC_x ‖ up(D_{x+1})]). A 1×1 convolution on D_1 gives the logits.

The paper leaves open which RSU stands at which level, their widths, and how the half-resolution head reaches the
input's size; ``docs/design.md`` gives our reading and its reasons.
"""

from functools import partial
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.batch_norm import batch_norm
from afiu_jax.blocks.aim import AIM, neighbours
from afiu_jax.blocks.resnet import level_channels, resnet_levels, run_levels
from afiu_jax.blocks.rsu import RSU
from afiu_jax.blocks.sim import SIM
from afiu_jax.initializers import Streams
from afiu_jax.layers import ConvNormReLU, conv, resize
from afiu_jax.networks.prediction import Prediction
from afiu_jax.networks.sizes import LegalSizes
from afiu_jax.side_by_side import SideBySide

LEVELS = (1, 2, 3, 4, 5)

SMALL = {
    "width": 16,
    "depths": (1, 2, 2, 1),
    "channels": 16,
    "aim_mid_cap": 32,
    "sim_low": 8,
    "rsu_mid": 8,
}
"""AFIU-small: the same graph with 1.7 million parameters, for CPUs."""


class AFIU(nnx.Module):
    """Adaptive Feature Integration UNet; 163,295,329 trainable parameters with the default options.

    Sub-modules bear the paper's names: E1…E5, AIM1…AIM5, SIM1…SIM5, fusion1…fusion5, D5…D1, head.

    Args:
        width: channels of E1; 64 is ResNet-50.
        depths: bottlenecks of E2…E5; (3, 4, 6, 3) is ResNet-50.
        channels: channels of every AIM, SIM, fusion and decoder output.
        aim_mid_cap: upper bound of the channels inside AIM, which hold 84 % of the parameters; none as published.
        sim_low: channels of SIM's half-resolution branch.
        rsu_heights: heights of the RSUs of D1…D5; the paper names RSU2 at D1 and RSU5 at D5.
        rsu_mid: channels inside the RSUs.
        dtype: compute type; weights stay float32.
        rngs: random streams for the initial weights.
    """

    # Levels must be exact doubles of each other, and SIM5 halves E5 once more: 2×2 is the least that it can have.
    sizes = LegalSizes(multiple=32, least=64)
    normalization = "imagenet"
    presets: ClassVar = {"small": SMALL}

    def __init__(
        self,
        *,
        width: int = 64,
        depths: tuple[int, int, int, int] = (3, 4, 6, 3),
        channels: int = 64,
        aim_mid_cap: int | None = None,
        sim_low: int = 32,
        rsu_heights: tuple[int, int, int, int, int] = (2, 3, 4, 5, 5),
        rsu_mid: int = 32,
        dtype: str = "float32",
        rngs: Streams,
    ):
        factories = {
            "conv": partial(conv, dtype=dtype, rngs=rngs),
            "norm": partial(batch_norm, dtype=dtype, rngs=rngs),
        }
        features = level_channels(width)
        for x, level in zip(LEVELS, resnet_levels(width=width, depths=depths, **factories), strict=True):
            setattr(self, f"E{x}", level)
        for x in LEVELS:
            branches, main = neighbours(features, x - 1)
            inputs = {b: features[i] for b, i in branches.items()}
            setattr(self, f"AIM{x}", AIM(inputs, main, channels, mid_cap=aim_mid_cap, **factories))
        for x in LEVELS:
            setattr(self, f"SIM{x}", SIM(channels, sim_low, **factories))
        for x in LEVELS:
            setattr(self, f"fusion{x}", ConvNormReLU(channels, channels, bias=False, **factories))
        self.beside = SideBySide()
        for x in reversed(LEVELS):
            in_features = channels if x == LEVELS[-1] else 2 * channels
            rsu = RSU(in_features, rsu_mid, channels, height=rsu_heights[x - 1], **factories)
            setattr(self, f"D{x}", rsu)
        self.head = factories["conv"](channels, 1, 1)

    def __call__(self, image: Float[Array, "b h w 3"]) -> Prediction:
        """Logits of a batch of normalised images at the images' size.

        Raises:
            ValueError: a height or width that is not a multiple of 32, or less than 64.
        """
        return Prediction(self.stages(image)["logits"])

    def stages(self, image: Float[Array, "b h w 3"]) -> dict[str, Float[Array, "b _h _w _c"]]:
        """Every named intermediate of the network: E1…, AIM1…, EC1…, D5…D1, logits.

        Raises:
            ValueError: a height or width that is not a multiple of 32, or less than 64.
        """
        self.sizes.require(image.shape[1:3], "afiu")
        levels = run_levels(tuple(getattr(self, f"E{x}") for x in LEVELS), image)
        out = {f"E{x}": level for x, level in zip(LEVELS, levels, strict=True)}
        for x in LEVELS:
            branches, _ = neighbours(LEVELS, x - 1)
            out[f"AIM{x}"] = getattr(self, f"AIM{x}")({b: levels[i] for b, i in branches.items()})
            out[f"EC{x}"] = getattr(self, f"fusion{x}")(getattr(self, f"SIM{x}")(out[f"AIM{x}"]))
        for x in reversed(LEVELS):
            encoded = out[f"EC{x}"]
            if x != LEVELS[-1]:
                deeper = resize(out[f"D{x + 1}"], encoded.shape[1:3])
                encoded = self.beside(encoded, deeper)
            out[f"D{x}"] = getattr(self, f"D{x}")(encoded)
        # Logits are resized rather than D1: 64 times fewer numbers, and both are linear up to the border.
        out["logits"] = resize(self.head(out["D1"]), image.shape[1:3]).astype(jnp.float32)
        return out
