"""The parts of SUN's decoder: its units with PReLU, its levels around channel attention, and its side heads."""

from functools import partial

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.blocks.cam import CAM
from afiu_jax.dropout import ChannelDropout
from afiu_jax.initializers import Streams, Uniform, declare
from afiu_jax.layers import ConvFactory, NormFactory, PReLU, resize

MAP_SIDE = 256
"""Height and width of every map of SUN, in pixels, whatever the size of the image."""


class ConvNormPReLU(nnx.Module):
    """Convolution with bias, batch normalisation, PReLU; ``[b, h, w, in] -> [b, h, w, out]``."""

    def __init__(
        self, in_features: int, out_features: int, kernel_size: int = 3, *, conv: ConvFactory, norm: NormFactory
    ):
        self.conv = conv(in_features, out_features, kernel_size)
        self.norm = norm(out_features)
        self.relu = PReLU(out_features)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        """``out`` channels at the size of the input."""
        return self.relu(self.norm(self.conv(x)))


class ConvPReLU(nnx.Module):
    """3×3 convolution with bias, PReLU; the number of channels stays."""

    def __init__(self, features: int, *, conv: ConvFactory):
        self.conv = conv(features, features, 3)
        self.relu = PReLU(features)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Shape of the input."""
        return self.relu(self.conv(x))


class DecoderLevel(nnx.Module):
    """``embed`` → CAM → ``reduce`` with dropout → 1×1 ``project`` → ``enlarge``, if there is one.

    Args:
        in_features: channels of the input.
        widths: channels after ``embed``, ``reduce`` and ``project``.
        dropout: share of channels that dropout drops in training.
        enlarge: doubles height and width, or None.
        conv: bound convolution factory.
        norm: bound normalisation factory.
    """

    def __init__(
        self,
        in_features: int,
        widths: tuple[int, int, int],
        *,
        dropout: float,
        enlarge: nnx.Module | None = None,
        conv: ConvFactory,
        norm: NormFactory,
    ):
        unit = partial(ConvNormPReLU, conv=conv, norm=norm)
        embedded, reduced, out = widths
        self.embed = unit(in_features, embedded)
        self.cam = CAM()
        self.reduce = unit(embedded, reduced)
        self.dropout = ChannelDropout(dropout)
        self.project = unit(reduced, out, 1)
        self.enlarge = enlarge

    def attend(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        """The first half of the level, up to its attention."""
        return self.cam(self.embed(x))

    def decode(self, attended: Float[Array, "b h w c2"]) -> Float[Array, "b h3 w3 c3"]:
        """The second half: what the next level gets."""
        x = self.project(self.dropout(self.reduce(attended)))
        return self.enlarge(x) if self.enlarge else x


class SideHead(nnx.Module):
    """``gather``, then units, each followed by a resize to a fixed size, then 1×1 to logits at ``MAP_SIDE``.

    Args:
        in_features: channels of the input.
        features: channels inside.
        sizes: height and width after each unit, in pixels.
        conv: bound convolution factory.
        norm: bound normalisation factory.
    """

    def __init__(
        self, in_features: int, features: int, sizes: tuple[int, ...], *, conv: ConvFactory, norm: NormFactory
    ):
        self.sizes = sizes
        self.gather = ConvNormPReLU(in_features, features, conv=conv, norm=norm)
        self.units = nnx.List(ConvPReLU(features, conv=conv) for _ in sizes)
        self.head = conv(features, 1, 1)

    def __call__(self, x: Float[Array, "b h w c"]) -> tuple[Float[Array, "b s s f"], Float[Array, "b 256 256 1"]]:
        """The features before the last convolution, at the last of ``sizes``, and the logits."""
        x = self.gather(x)
        for unit, size in zip(self.units, self.sizes, strict=True):
            x = resize(unit(x), (size, size))
        return x, resize(self.head(x), (MAP_SIDE, MAP_SIDE)).astype(jnp.float32)


def doubling(features: int, *, dtype: str = "float32", rngs: Streams) -> nnx.ConvTranspose:
    """Transposed 4×4 convolution without bias that doubles height and width, half a pixel off centre.

    The original pads nothing and cuts the first two rows and columns off the 2n+2 that come out, where a centred
    layer loses one at each end: 3 − 2 = 1 row of zeros above and 3 below the spread rows give the same.
    """
    bound = Uniform((features * 4 * 4) ** -0.5)
    layer = nnx.ConvTranspose(
        features,
        features,
        (4, 4),
        strides=(2, 2),
        padding=((1, 3), (1, 3)),
        transpose_kernel=True,
        use_bias=False,
        kernel_init=bound,
        dtype=jnp.dtype(dtype),
        rngs=rngs,
    )
    declare(layer.kernel, bound)
    return layer
