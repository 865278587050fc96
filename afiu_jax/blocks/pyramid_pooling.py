"""Pyramid pooling (Zhao et al., CVPR 2017) as SRM has it: means over a grid of windows beside the map itself."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32

from afiu_jax.layers import ConvFactory, resize

BINS = (6, 3, 2, 1)


class PyramidPooling(nnx.Module):
    """The input, then for every n of ``BINS`` its n×n means, through a 1×1 convolution, enlarged to its size.

    A window is ceil(side / n) pixels long, so that there can be fewer than n windows, and the last may be cut short.

    Args:
        in_features: channels of the input.
        features: channels of each of the four pooled maps.
        conv: bound convolution factory.
    """

    def __init__(self, in_features: int, features: int, *, conv: ConvFactory):
        self.conv = nnx.Dict({f"bins{n}": conv(in_features, features, 1, bias=False) for n in BINS})

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c2"]:
        """``in_features + 4 * features`` channels at the size of the input."""
        size = x.shape[1:3]
        pooled = (self.conv[f"bins{n}"](_window_means(x, n)) for n in BINS)
        return jnp.concatenate([x, *(resize(p, size, align_corners=True) for p in pooled)], axis=-1)


def _window_means(x: Float[Array, "b h w c"], bins: int) -> Float[Array, "b _h _w c"]:
    """Means over adjacent windows, those at the far ends over what there is of them."""
    # Products with constant matrices, like resizes: a pooling that pads one end only does not export to ONNX.
    rows, columns = (_means_matrix(side, bins).astype(x.dtype) for side in x.shape[1:3])
    return jnp.einsum("ih,jw,bhwc->bijc", rows, columns, x, precision="highest")


def _means_matrix(side: int, bins: int) -> Float32[np.ndarray, "windows side"]:
    window = np.arange(side) // -(-side // bins)
    members = window == np.arange(window[-1] + 1)[:, None]
    return (members / members.sum(axis=1, keepdims=True)).astype(np.float32)
