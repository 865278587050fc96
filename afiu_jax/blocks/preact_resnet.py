"""Pre-activation ResNet-50 (Simon et al. 2016, after He et al. 2016b), on which SRM was published.

Normalisation and ReLU come before a convolution, not after it, so a level ends in a sum that the next one normalises.
Here that normalisation belongs to the level before: a level takes and gives activated maps. Shapes at an image of
32k + 1 pixels: 8k + 1, 4k + 1, 2k + 1 and k + 1 after the four levels.
"""

from functools import partial

from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.layers import ConvFactory, NormFactory
from afiu_jax.pooling import max_pool_3x3

EXPANSION = 4


class PreActBottleneck(nnx.Module):
    """``x + conv3(a(conv2(a(conv1(a(x))))))`` with ``a`` = ReLU of a normalisation; 1×1, 3×3 (strided), 1×1.

    Args:
        in_features: channels of the input; the output has 4·``width``.
        width: channels inside.
        stride: of the 3×3 convolution, and of the shortcut.
        shortcut: ``None``: the sum of the input itself, which has 4·``width`` channels. Otherwise the input is
            activated already, and a 1×1 convolution takes to the sum what ``shortcut`` names: the ``input``, or
            ``reduced``, the activated output of conv1.
        conv: bound convolution factory.
        norm: bound normalisation factory.
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        *,
        stride: int = 1,
        shortcut: str | None = None,
        conv: ConvFactory,
        norm: NormFactory,
    ):
        conv = partial(conv, bias=False)
        out_features = width * EXPANSION
        self.shortcut = shortcut
        if shortcut is None:
            self.norm1 = norm(in_features)
        self.conv1, self.norm2 = conv(in_features, width, 1), norm(width)
        self.conv2, self.norm3 = conv(width, width, 3, stride=stride), norm(width)
        self.conv3 = conv(width, out_features, 1)
        if shortcut is not None:
            self.expand = conv(in_features if shortcut == "input" else width, out_features, 1, stride=stride)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The sum, not activated; four times the width in channels, at the stride's size."""
        activated = nnx.relu(self.norm1(x)) if self.shortcut is None else x
        reduced = nnx.relu(self.norm2(self.conv1(activated)))
        y = self.conv3(nnx.relu(self.norm3(self.conv2(reduced))))
        if self.shortcut is None:
            return x + y
        return self.expand(activated if self.shortcut == "input" else reduced) + y


class PreActLevel(nnx.Module):
    """Bottlenecks, the first of them strided and with a convolution on its shortcut; then normalisation and ReLU.

    Args:
        in_features: channels of the input, which is activated.
        width: channels inside the bottlenecks; the output has four times as many.
        depth: number of bottlenecks.
        stride: of the first one.
        shortcut: what its shortcut takes, see ``PreActBottleneck``.
        conv: bound convolution factory.
        norm: bound normalisation factory.
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        depth: int,
        *,
        stride: int,
        shortcut: str,
        conv: ConvFactory,
        norm: NormFactory,
    ):
        out_features = width * EXPANSION
        block = partial(PreActBottleneck, width=width, conv=conv, norm=norm)
        self.blocks = nnx.List(
            [
                block(in_features, stride=stride, shortcut=shortcut),
                *(block(out_features) for _ in range(depth - 1)),
            ]
        )
        self.norm = norm(out_features)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The activated map of the level."""
        for block in self.blocks:
            x = block(x)
        return nnx.relu(self.norm(x))


class PreActResNet(nnx.Module):
    """Normalised image, 7×7 convolution, max-pooling, levels; the image's own normalisation is learned, too.

    Args:
        width: channels of the first convolution and inside the first level, doubled from level to level.
        depths: bottlenecks of each level; (3, 4, 6, 3) is ResNet-50.
        conv: bound convolution factory.
        norm: bound normalisation factory.
    """

    def __init__(self, *, width: int, depths: tuple[int, ...], conv: ConvFactory, norm: NormFactory):
        self.image_norm = norm(3)
        self.stem_conv, self.stem_norm = conv(3, width, 7, stride=2), norm(width)
        inside = [width * 2**i for i in range(len(depths))]
        above = [width, *(w * EXPANSION for w in inside[:-1])]
        self.levels = nnx.List(
            PreActLevel(
                in_features,
                w,
                depth,
                stride=1 if i == 0 else 2,
                shortcut="reduced" if i == 0 else "input",
                conv=conv,
                norm=norm,
            )
            for i, (in_features, w, depth) in enumerate(zip(above, inside, depths, strict=True))
        )

    def __call__(self, image: Float[Array, "b h w 3"]) -> list[Float[Array, "b _h _w _c"]]:
        """The activated map of every level."""
        x = nnx.relu(self.stem_norm(self.stem_conv(self.image_norm(image))))
        x = max_pool_3x3(x)
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features
