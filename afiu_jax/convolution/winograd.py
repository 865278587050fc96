"""3×3 convolutions with fewer products: Winograd's minimal filtering (Lavin and Gray, CVPR 2016, section 4).

A tile of 2×2 results of a 3×3 kernel depends on 4×4 inputs. Inputs and kernel are both transformed to 4×4 numbers,
whose products, transformed back, are the results: 16 products in place of 36. With channels these are 16 matrix
products. The transforms only add, subtract and halve, so the result is as exact as the usual one; larger tiles need
fewer products still, and lose a digit.
"""

from collections.abc import Sequence
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from afiu_jax.sparse import Sparse, combine

_TILE, _STEP = 4, 2
"""Sides of a tile's inputs and of its results, in pixels."""

_WIDE = 128 * 128
"""Input times output channels from which fewer products are worth the memory of their tiles."""

_INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
_KERNEL = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2
_OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])


def is_wide_3x3(kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int], dtype: DTypeLike) -> bool:
    """Whether a convolution can be computed so, and has as many channels as it takes to gain.

    Args:
        kernel: height, width, input and output channels.
        strides: of either axis, in pixels.
        dilation: distance between taps on either axis, in pixels.
        dtype: of the maps.
    """
    plain = tuple(kernel[:2]) == (3, 3) and max(*strides, *dilation) == 1 and dtype == jnp.float32
    return plain and kernel[2] * kernel[3] >= _WIDE


def filter_kernel(kernel: Float[Array, "3 3 c f"]) -> Float[Array, "16 c f"]:
    """A kernel as its products with tiles need it."""
    transform = np.kron(_KERNEL, _KERNEL).astype(kernel.dtype)
    return jnp.tensordot(transform, kernel.reshape(9, *kernel.shape[2:]), 1)


def convolve_3x3(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "3 3 c f"] | Float[Array, "16 c f"],
    padding: Sequence[tuple[int, int]],
) -> Float[Array, "b h2 w2 f"]:
    """A convolution of stride 1; its gradients are products of the same tiles. Reverse mode only.

    Args:
        x: maps.
        kernel: height, width, input and output channels; or what ``filter_kernel`` makes of it.
        padding: rows of zeros above and below, columns left and right.

    Returns:
        Maps of the padded size less 2.
    """
    kernel = kernel if kernel.ndim == 3 else filter_kernel(kernel)
    batch, channels, features = len(x), *kernel.shape[1:]
    height, width = (side + sum(pads) - 2 for side, pads in zip(x.shape[1:3], padding, strict=True))
    down, across = -(-height // _STEP), -(-width // _STEP)
    rows, columns = _into_tiles(x.shape[1], padding[0][0], down), _into_tiles(x.shape[2], padding[1][0], across)
    # Barriers, here and for the gradient below, since these transforms read their operand several times: fused with
    # what makes it, they would compute it as often. Also, loops of equal layers are equal then, and compiled once.
    tiles = combine(combine(jax.lax.optimization_barrier(x), rows, 1), columns, 2)
    tiles = tiles.reshape(batch, _TILE, down, _TILE, across, channels).transpose(1, 3, 0, 2, 4, 5)
    found = jnp.matmul(tiles.reshape(_TILE**2, -1, channels), kernel)
    found = _out_of_tiles(found.reshape(_TILE, _TILE, batch, down, across, features))
    return jax.lax.optimization_barrier(found[:, :height, :width])


@cache
def _into_tiles(side: int, before: int, count: int) -> Sparse:
    """From rows of a map to those of its transformed tiles: the first of every tile, then the second, and so on."""
    i, r = np.nonzero(_INPUT)
    n = np.arange(count)[:, None]
    rows, columns, values = np.broadcast_arrays(i * count + n, _STEP * n + r - before, _INPUT[i, r])
    inside = (columns >= 0) & (columns < side)
    return Sparse((_TILE * count, side), rows[inside], columns[inside], values[inside])


@jax.custom_vjp
def _out_of_tiles(found: Float[Array, "4 4 b down across f"]) -> Float[Array, "b h w f"]:
    """Maps of transformed tiles."""
    _, _, batch, down, across, features = found.shape
    maps = _contract(_contract(found, _OUTPUT, 0, 3), _OUTPUT, 0, 4)
    return maps.reshape(batch, _STEP * down, _STEP * across, features)


def _tiles_of_gradient(_, gradient: Float[Array, "b h w f"]) -> tuple[Float[Array, "4 4 b down across f"]]:
    batch, height, width, features = gradient.shape
    gradient = gradient.reshape(batch, height // _STEP, _STEP, width // _STEP, _STEP, features)
    return (_contract(_contract(gradient, _OUTPUT.T, 4, 0), _OUTPUT.T, 3, 0),)


_out_of_tiles.defvjp(lambda found: (_out_of_tiles(found), None), _tiles_of_gradient)


def _contract(x: Array, matrix: np.ndarray, axis: int, moved: int) -> Array:
    """The product of a small matrix with an axis of ``x``, which comes to lie at ``moved``, as sums of slices."""
    shape = [-1 if n == moved else 1 for n in range(x.ndim)]
    return sum(
        column.astype(x.dtype).reshape(shape) * jnp.expand_dims(jax.lax.index_in_dim(x, n, axis, keepdims=False), moved)
        for n, column in enumerate(matrix.T)
    )
