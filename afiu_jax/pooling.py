"""Pooling with PyTorch's arithmetic, by 2. Gradients of maxima are those of comparisons of slices; reverse mode only.

XLA's own (select and scatter) takes ten to thirty times as long on a CPU, and in a GPU's program it orders dimensions
otherwise than the convolutions around it.
"""

from functools import partial, reduce

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


def max_pool_3x3(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """3×3 max-pooling, stride 2, with a border of one pixel: the one after ResNet's first convolution."""
    return _max_pool(x, 3)


def max_pool_ceil(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """2×2 max-pooling, stride 2; an odd last row or column forms a window of its own (``ceil_mode=True``)."""
    return _max_pool(x, 2)


def avg_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """2×2 average pooling, stride 2; an odd last row or column is dropped, as in PyTorch."""
    # Every argument by keyword: the ONNX exporter knows this call in no other form.
    return nnx.avg_pool(inputs=x, window_shape=(2, 2), strides=(2, 2), padding="VALID", count_include_pad=True)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: Array, side: int) -> Array:
    """Windows of 2 or 3 pixels a side that begin at every other pixel; those of 3 one pixel before it."""
    if side == 2:
        return nnx.max_pool(x, window_shape=(2, 2), strides=(2, 2), padding="SAME")
    # Padded by hand: the ONNX exporter knows "SAME" and "VALID" only.
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    return nnx.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding="VALID")


def _by_slices(x: Array, side: int) -> Array:
    """``_max_pool`` as comparisons of every other column, then row: of equal values the first in reading order wins."""
    for axis in (2, 1):
        even, odd = (jax.lax.slice_in_dim(x, start, None, 2, axis) for start in (0, 1))
        odd = _pad(odd, axis, 0, even.shape[axis] - odd.shape[axis])
        before = [_pad(odd, axis, 1, -1)] if side == 3 else []
        x = reduce(_greater, [*before, even, odd])
    return x


def _pad(x: Array, axis: int, low: int, high: int) -> Array:
    edges = [(0, 0, 0)] * x.ndim
    edges[axis] = (low, high, 0)
    return jax.lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), edges)


def _greater(x: Array, other: Array) -> Array:
    """The greater of two, the first of equals; NaN if one is."""
    return jnp.where((other > x) | (other != other), other, x)


_max_pool.defvjp(
    lambda x, side: (_by_slices(x, side), x),
    lambda side, x, above: jax.vjp(partial(_by_slices, side=side), x)[1](above),
)
