"""ResNet-50 as five feature levels (He et al. 2016; the levels E1…E5 of the paper, section 3.2).

=====  ==========================================  ======  ========
level  content                                     stride  channels
=====  ==========================================  ======  ========
E1     conv1 7×7, norm, ReLU; no max-pooling       2       64
E2     max-pooling, conv2_x (3 bottlenecks)        4       256
E3     conv3_x (4)                                 8       512
E4     conv4_x (6)                                 16      1024
E5     conv5_x (3)                                 32      2048
=====  ==========================================  ======  ========

The stride of a bottleneck sits on its 3×3 convolution (the "v1.5" of torchvision). ResNet-34 has the same levels with
``BasicBlock`` in place of bottlenecks.
"""

from functools import partial

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.layers import ConvFactory, ConvNormReLU, NormFactory
from afiu_jax.pooling import max_pool_3x3


class BasicBlock(nnx.Module):
    """3×3 (strided), 3×3, plus the (projected) input: the block of ResNet-18 and ResNet-34.

    Its initial weights are those of the factory ``conv``, since networks also use it outside a pretrained ResNet.
    """

    expansion = 1

    def __init__(self, in_features: int, width: int, *, stride: int = 1, conv: ConvFactory, norm: NormFactory):
        conv = partial(conv, bias=False)
        self.conv1, self.bn1 = conv(in_features, width, 3, stride=stride), norm(width)
        self.conv2, self.bn2 = conv(width, width, 3), norm(width)
        self.projected = stride != 1 or in_features != width
        if self.projected:
            self.downsample_conv = conv(in_features, width, 1, stride=stride)
            self.downsample_bn = norm(width)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """``width`` channels at the stride's size."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        shortcut = self.downsample_bn(self.downsample_conv(x)) if self.projected else x
        return nnx.relu(y + shortcut)


class Bottleneck(nnx.Module):
    """1×1 reduce, 3×3 (strided or dilated), 1×1 expand by 4, plus the (projected) input."""

    expansion = 4

    def __init__(
        self,
        in_features: int,
        width: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        conv: ConvFactory,
        norm: NormFactory,
    ):
        conv = partial(conv, bias=False, init="he_fan_out")
        out_features = width * self.expansion
        self.conv1, self.bn1 = conv(in_features, width, 1), norm(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride=stride, dilation=dilation), norm(width)
        self.conv3, self.bn3 = conv(width, out_features, 1), norm(out_features)
        self.projected = stride != 1 or in_features != out_features
        if self.projected:
            self.downsample_conv = conv(in_features, out_features, 1, stride=stride)
            self.downsample_bn = norm(out_features)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Four times the width in channels, at the stride's size."""
        y = nnx.relu(self.bn1(self.conv1(x)))
        y = nnx.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = self.downsample_bn(self.downsample_conv(x)) if self.projected else x
        return nnx.relu(y + shortcut)


class Level(nnx.Module):
    """A row of residual blocks, the first of them strided; E2 pools first and is not strided.

    Args:
        in_features: channels of the input.
        width: channels inside the blocks; the output has ``block.expansion`` times as many.
        depth: number of blocks.
        stride: stride of the first block.
        pool: 3×3 max-pooling, stride 2, comes first.
        block: ``Bottleneck`` or ``BasicBlock``.
        options: of every block, such as the ``dilation`` of bottlenecks and the bound factories ``conv`` and ``norm``.
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        depth: int,
        *,
        stride: int,
        pool: bool = False,
        block: type[BasicBlock] | type[Bottleneck] = Bottleneck,
        **options,
    ):
        self.pool = pool
        self.blocks = nnx.List(
            block(
                in_features if i == 0 else width * block.expansion,
                width,
                stride=stride if i == 0 else 1,
                **options,
            )
            for i in range(depth)
        )

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """The level's features, at half the size."""
        if self.pool:
            x = max_pool_3x3(x)
        for block in self.blocks:
            x = block(x)
        return x


def resnet_levels(
    *,
    width: int = 64,
    depths: tuple[int, int, int, int] = (3, 4, 6, 3),
    conv: ConvFactory,
    norm: NormFactory,
) -> tuple[nnx.Module, ...]:
    """The five levels E1…E5, each a module to be applied to the output of the one before.

    Args:
        width: channels of E1; E2…E5 have 4, 8, 16 and 32 times as many. 64 is ResNet.
        depths: bottlenecks of E2…E5; (3, 4, 6, 3) is ResNet-50.
        conv: bound convolution factory.
        norm: bound normalisation factory.
    """
    stem = ConvNormReLU(3, width, 7, stride=2, bias=False, init="he_fan_out", conv=conv, norm=norm)
    levels, in_features = [stem], width
    for i, depth in enumerate(depths):
        level_width = width * 2**i
        levels.append(
            Level(in_features, level_width, depth, stride=1 if i == 0 else 2, pool=i == 0, conv=conv, norm=norm)
        )
        in_features = level_width * Bottleneck.expansion
    return tuple(levels)


def level_channels(width: int = 64) -> tuple[int, ...]:
    """Channels of E1…E5 for a stem of ``width`` channels."""
    return (width, *(width * 2**i * Bottleneck.expansion for i in range(4)))


def run_levels(levels: tuple[nnx.Module, ...], x: Float[Array, "b h w c"]) -> list[jnp.ndarray]:
    """Features of every level, each computed from the one before, the first from ``x``."""
    features = []
    for level in levels:
        x = level(x)
        features.append(x)
    return features
