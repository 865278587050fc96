"""Holistic attention of CPD (Wu et al., CVPR 2019): a saliency map, blurred so that it covers whole objects."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.initializers import declare

SIDE = 31  # of the kernel, in pixels


class HolisticAttention(nnx.Module):
    """``x · max(MinMax(map * kernel), map)``, with a kernel that is learned and Gaussian at first.

    The blurred map is stretched to 0…1 in each image.
    """

    def __init__(self):
        init = RootGaussian()
        # PyTorch's layout, since it is not a layer's kernel there either.
        shape = (1, 1, SIDE, SIDE)
        self.gaussian_kernel = declare(nnx.Param(init(None, shape)), init)

    def __call__(self, attention: Float[Array, "b h w 1"], x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The features weighted by the map.

        Args:
            attention: the map, in 0…1.
            x: features.
        """
        kernel = self.gaussian_kernel[...].transpose(2, 3, 1, 0).astype(attention.dtype)
        blurred = jax.lax.conv_general_dilated(
            attention, kernel, (1, 1), [(SIDE // 2, SIDE // 2)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        least, greatest = (f(blurred, axis=(1, 2), keepdims=True) for f in (jnp.min, jnp.max))
        blurred = (blurred - least) / (greatest - least + 1e-8)
        return x * jnp.maximum(blurred, attention).astype(x.dtype)


@dataclass(frozen=True)
class RootGaussian:
    """The root of a two-dimensional Gaussian, sum 1; an initializer ``(key, shape, dtype) -> array``.

    Along each axis the Gaussian is integrated over pixels that divide ``±sigmas`` standard deviations. The published
    code takes the root of the product, which widens the kernel by √2.
    """

    sigmas: float = 4.0

    def __call__(self, key: jax.Array | None, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        """One kernel, ``[1, 1, side, side]``."""
        return jnp.asarray(self.on_host(None, shape), dtype)

    def on_host(self, random: np.random.Generator | None, shape: tuple[int, ...]) -> np.ndarray:
        """The same from NumPy, float32."""
        side = shape[-1]
        beyond = self.sigmas + (2 * self.sigmas + 1) / side / 2
        edges = np.linspace(-beyond, beyond, side + 1)
        pixels = np.diff([math.erf(edge / math.sqrt(2)) for edge in edges])
        kernel = np.sqrt(np.outer(pixels, pixels))
        return (kernel / kernel.sum()).reshape(shape).astype(np.float32)
