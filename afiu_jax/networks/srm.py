"""SRM (Wang et al., ICCV 2017): a coarse map, refined twice by a second backbone with pyramid pooling.

Stage 1 reads two scores per pixel, background and salient, off a pre-activation ResNet-50 at stride 32. Stages 2 and 3
pool a map of the second backbone, at strides 16 and 8, into a pyramid, compress it and combine it with the scores of
the stage before, enlarged. The graph is that of the official Caffe release, which fixes images to 353×353 pixels;
other sizes pool by the same rule. A softmax over two scores is a sigmoid of their difference, so maps are given as the
salient score minus the other.
"""

from functools import partial
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.batch_norm import batch_norm
from afiu_jax.blocks.preact_resnet import EXPANSION, PreActResNet
from afiu_jax.blocks.pyramid_pooling import BINS, PyramidPooling
from afiu_jax.initializers import Streams
from afiu_jax.layers import ConvFactory, conv, resize
from afiu_jax.networks.prediction import Prediction
from afiu_jax.networks.sizes import LegalSizes

SMALL = {"width": 8, "depths": (1, 1, 1, 1), "pooled": 32, "channels": 32, "compressed": 16}
"""SRM with an eighth of the channels and one bottleneck a level, for CPUs: 0.4 million parameters."""


class SRM(nnx.Module):
    """Stagewise refinement model; 53,178,526 trainable parameters with the default options.

    Its input are pixels in 0…255 in the order BGR; its own first normalisation brings them into range.

    Args:
        width: channels of either backbone's first convolution; 64 is ResNet-50.
        depths: bottlenecks of the levels; (3, 4, 6, 3) is ResNet-50, and the second backbone lacks the last.
        pooled: channels of each pooled map of a pyramid.
        channels: channels of the first convolution after a backbone or pyramid.
        compressed: channels that stages 2 and 3 see beside the scores.
        frozen_norm: normalise by running statistics in training, too, as the original does from ImageNet's weights
            on. Off, since those weights are Caffe's own: random ones come with no statistics worth freezing, and
            identities in their place would let pixels in 0…255 through as they are.
        dtype: compute type; weights stay float32.
        rngs: random streams for the initial weights: He, biases 0, as Caffe's "msra".
    """

    # Every halving takes 2m + 1 pixels to m + 1, so that the corners stay in their places.
    sizes = LegalSizes(multiple=32, first=1, last=1, least=33)
    normalization = "bgr255"
    presets: ClassVar = {"small": SMALL}

    def __init__(
        self,
        *,
        width: int = 64,
        depths: tuple[int, int, int, int] = (3, 4, 6, 3),
        pooled: int = 512,
        channels: int = 256,
        compressed: int = 64,
        frozen_norm: bool = False,
        dtype: str = "float32",
        rngs: Streams,
    ):
        bound = {"dtype": dtype, "rngs": rngs}
        init_conv = partial(conv, init="he_fan_in", bias_value=0.0, **bound)
        backbone = partial(
            PreActResNet, width=width, conv=init_conv, norm=partial(batch_norm, frozen=frozen_norm, **bound)
        )
        features = [width * 2**i * EXPANSION for i in range(4)]
        self.backbone1 = backbone(depths=depths)
        self.gather1 = init_conv(features[3], channels, 3, bias=False)
        self.classify1 = init_conv(channels, 2, 1)
        self.backbone2 = backbone(depths=depths[:3])
        self.stage2 = Refinement(features[2], pooled, channels, compressed, conv=init_conv)
        self.stage3 = Refinement(features[1], pooled, channels, compressed, conv=init_conv)

    def __call__(self, image: Float[Array, "b h w 3"]) -> Prediction:
        """Logits of a batch of images at their size: the map of stage 3, then those of stages 1 and 2.

        Raises:
            ValueError: a height or width that is not 32k+1, or less than 33.
        """
        stages = self.stages(image)
        return Prediction(stages["logits"], (stages["side1"], stages["side2"]))

    def stages(self, image: Float[Array, "b h w 3"]) -> dict[str, Float[Array, "b _h _w _c"]]:
        """Every named intermediate.

        ``features1`` and, of the second backbone, ``features2`` and ``features3``: what each stage reads;
        ``pyramid2 compressed2 pyramid3 compressed3``; ``scores1 scores2 scores3``, two channels; ``side1 side2``
        and ``logits``, one channel at the image's size.

        Raises:
            ValueError: a height or width that is not 32k+1, or less than 33.
        """
        self.sizes.require(image.shape[1:3], "srm")
        out = {"features1": self.backbone1(image)[3]}
        out["scores1"] = self.classify1(self.gather1(out["features1"]))
        _, out["features3"], out["features2"] = self.backbone2(image)
        for x, stage in ((2, self.stage2), (3, self.stage3)):
            out[f"pyramid{x}"] = stage.pool(out[f"features{x}"])
            out[f"compressed{x}"] = stage.compress(out[f"pyramid{x}"])
            out[f"scores{x}"] = stage.combine(out[f"scores{x - 1}"], out[f"compressed{x}"])
        for x, name in ((1, "side1"), (2, "side2"), (3, "logits")):
            scores = out[f"scores{x}"].astype(jnp.float32)
            out[name] = resize(scores[..., 1:] - scores[..., :1], image.shape[1:3], align_corners=True)
        return out


class Refinement(nnx.Module):
    """One stage of refinement: ``pool`` → ``compress`` → ``combine`` with the scores of the stage before.

    Args:
        in_features: channels of the backbone's map.
        pooled: channels of each pooled map.
        channels: channels of the first convolution after the pyramid.
        compressed: channels of the second.
        conv: bound convolution factory.
    """

    def __init__(self, in_features: int, pooled: int, channels: int, compressed: int, *, conv: ConvFactory):
        conv = partial(conv, bias=False)
        self.pool = PyramidPooling(in_features, pooled, conv=conv)
        self.gather = conv(in_features + len(BINS) * pooled, channels, 3)
        self.squeeze = conv(channels, compressed, 3)
        self.classify = conv(2 + compressed, 2, 3)
        self.smooth = conv(2, 2, 3)

    def compress(self, pyramid: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        """What the stage has to say beside the scores. There is no ReLU between the two convolutions."""
        return nnx.relu(self.squeeze(self.gather(pyramid)))

    def combine(
        self, scores: Float[Array, "b _h _w 2"], compressed: Float[Array, "b h w c"]
    ) -> Float[Array, "b h w 2"]:
        """Scores of this stage, at its own size."""
        scores = resize(scores, compressed.shape[1:3], align_corners=True)
        return self.smooth(self.classify(jnp.concatenate([scores, compressed], axis=-1)))
