"""U²-Net and its light version U²-Netp (Qin et al., Pattern Recognition 2020): a U-Net whose stages are U-Nets.

Six encoding and five decoding stages, every one an RSU. The lower a stage, the lower its RSU; the lowest are dilated
instead of pooled. Each decoding stage and the deepest encoding one give a side map, and a 1×1 convolution of the six
side maps' logits gives the final one.
"""

from functools import partial
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.batch_norm import batch_norm
from afiu_jax.blocks.rsu import RSU
from afiu_jax.initializers import Streams
from afiu_jax.layers import conv, resize
from afiu_jax.networks.prediction import Prediction
from afiu_jax.networks.sizes import LegalSizes
from afiu_jax.pooling import max_pool_ceil
from afiu_jax.side_by_side import SideBySide

HEIGHTS = (7, 6, 5, 4, 4, 4)
"""L of the RSUs of stages 1…6, in the encoder and in the decoder."""

FIRST_DILATED = 5

SMALL = {
    "encoder_mid": (8, 8, 16, 32, 32, 32),
    "encoder_out": (32, 32, 64, 64, 64, 64),
    "decoder_mid": (8, 8, 16, 32, 32),
    "decoder_out": (32, 32, 64, 64, 64),
}
"""U²-Net with about a quarter of the channels, at most 64: 1.2 million parameters, for CPUs."""


class U2Net(nnx.Module):
    """U²-Net; 44,009,869 trainable parameters with the default options.

    Sub-modules bear the published names: stage1…stage6 and stage5d…stage1d are the RSUs, side1…side6 the 3×3
    convolutions to the side maps, outconv the fusion of these.

    Args:
        encoder_mid: channels inside the RSUs of stage1…stage6.
        encoder_out: channels of the outputs of stage1…stage6.
        decoder_mid: channels inside the RSUs of stage1d…stage5d.
        decoder_out: channels of the outputs of stage1d…stage5d.
        dtype: compute type; weights stay float32.
        rngs: random streams for the initial weights.
    """

    sizes = LegalSizes()
    normalization = "max-imagenet"
    presets: ClassVar = {"small": SMALL}

    def __init__(
        self,
        *,
        encoder_mid: tuple[int, int, int, int, int, int] = (32, 32, 64, 128, 256, 256),
        encoder_out: tuple[int, int, int, int, int, int] = (64, 128, 256, 512, 512, 512),
        decoder_mid: tuple[int, int, int, int, int] = (16, 32, 64, 128, 256),
        decoder_out: tuple[int, int, int, int, int] = (64, 64, 128, 256, 512),
        dtype: str = "float32",
        rngs: Streams,
    ):
        factories = {
            "conv": partial(conv, dtype=dtype, rngs=rngs),
            "norm": partial(batch_norm, dtype=dtype, rngs=rngs),
        }
        rsu = [partial(RSU, height=h, dilated=x >= FIRST_DILATED, **factories) for x, h in enumerate(HEIGHTS, start=1)]
        features = 3
        for i, (mid, out) in enumerate(zip(encoder_mid, encoder_out, strict=True)):
            setattr(self, f"stage{i + 1}", rsu[i](features, mid, out))
            features = out
        self.beside = SideBySide()
        for i in reversed(range(5)):
            stage = rsu[i](features + encoder_out[i], decoder_mid[i], decoder_out[i])
            setattr(self, f"stage{i + 1}d", stage)
            features = decoder_out[i]
        for i, features in enumerate((*decoder_out, encoder_out[-1])):
            setattr(self, f"side{i + 1}", factories["conv"](features, 1, 3))
        self.outconv = factories["conv"](6, 1, 1)

    def __call__(self, image: Float[Array, "b h w 3"]) -> Prediction:
        """Logits of a batch of normalised images, all at the images' size: the fused map, then side1…side6."""
        stages = self.stages(image)
        return Prediction(stages["logits"], tuple(stages[f"side{x}"] for x in range(1, 7)))

    def stages(self, image: Float[Array, "b h w 3"]) -> dict[str, Float[Array, "b _h _w _c"]]:
        """Every named intermediate of the network: stage1…stage6, stage5d…stage1d, side1…side6, logits."""
        self.sizes.require(image.shape[1:3], "u2net")
        size = image.shape[1:3]
        out = {"stage1": self.stage1(image)}
        for x in range(2, 7):
            out[f"stage{x}"] = getattr(self, f"stage{x}")(max_pool_ceil(out[f"stage{x - 1}"]))
        deeper = out["stage6"]
        for x in range(5, 0, -1):
            skip = out[f"stage{x}"]
            deeper = self.beside(resize(deeper, skip.shape[1:3]), skip)
            deeper = out[f"stage{x}d"] = getattr(self, f"stage{x}d")(deeper)
        for x in range(1, 7):
            source = out["stage6" if x == 6 else f"stage{x}d"]
            out[f"side{x}"] = resize(getattr(self, f"side{x}")(source), size).astype(jnp.float32)
        sides = jnp.concatenate([out[f"side{x}"] for x in range(1, 7)], axis=-1)
        out["logits"] = self.outconv(sides).astype(jnp.float32)
        return out


class U2NetP(U2Net):
    """U²-Netp: the same graph with one width for all stages; 1,131,181 trainable parameters with the default options.

    Args:
        mid: channels inside the RSUs.
        out: channels of their outputs.
        dtype: compute type; weights stay float32.
        rngs: random streams for the initial weights.
    """

    presets: ClassVar = {"small": {"mid": 8, "out": 32}}

    def __init__(self, *, mid: int = 16, out: int = 64, dtype: str = "float32", rngs: Streams):
        super().__init__(
            encoder_mid=(mid,) * 6,
            encoder_out=(out,) * 6,
            decoder_mid=(mid,) * 5,
            decoder_out=(out,) * 5,
            dtype=dtype,
            rngs=rngs,
        )
