"""Layers with PyTorch's arithmetic: explicit padding, its batch-norm constants, its initial weights, and one resize.

Networks bind ``conv`` and ``batch_norm`` once with ``functools.partial`` (compute dtype, random stream) and hand
the pair to their blocks, so that the blocks read like the equations of the papers.

Shapes are ``[b, h, w, c]``. Published weights were trained with symmetric padding; Flax's ``"SAME"`` pads a strided
convolution on the far side only and would shift every level by a pixel, so padding is always given explicitly.
"""

from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32

from afiu_jax.initializers import Constant, Normal, Streams, Uniform, declare
from afiu_jax.sparse import Sparse, combine

ConvFactory = Callable[..., nnx.Conv]
NormFactory = Callable[..., nnx.Module]
UnitFactory = Callable[..., nnx.Module]
"""``(in_features, out_features, kernel_size, **options)``: ``conv``, ``ConvNorm`` or ``ConvNormReLU``."""


def conv(
    in_features: int,
    out_features: int,
    kernel_size: int | tuple[int, int],
    *,
    stride: int = 1,
    dilation: int = 1,
    bias: bool = True,
    init: Literal["torch", "he_fan_in", "he_fan_out"] | float = "torch",
    bias_value: float | None = None,
    dtype: str = "float32",
    rngs: Streams,
) -> nnx.Conv:
    """Convolution padded by ``dilation * (side of the kernel - 1) / 2`` on both ends of either axis.

    Args:
        in_features: channels of the input.
        out_features: channels of the output.
        kernel_size: odd side of a square kernel, or odd height and width.
        stride: step of the kernel, in pixels.
        dilation: distance between kernel taps, in pixels.
        bias: whether a bias is added.
        init: ``torch``: kernel and bias uniform within ±1/sqrt(fan_in), PyTorch's default; ``he_fan_in`` and
            ``he_fan_out``: normal with variance 2/fan_in or, as ResNet-50 was published, 2/fan_out (He et al. 2015);
            or a number: normal with this standard deviation.
        bias_value: initial value of the bias; None: uniform within ±1/sqrt(fan_in).
        dtype: compute type; weights stay float32.
        rngs: random streams of the network.
    """
    height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    fan_in, fan_out = in_features * height * width, out_features * height * width
    bound = Uniform(fan_in**-0.5)
    he = {"he_fan_in": Normal((2 / fan_in) ** 0.5), "he_fan_out": Normal((2 / fan_out) ** 0.5)}
    kernel_init = Normal(init) if isinstance(init, float) else {"torch": bound, **he}[init]
    bias_init = bound if bias_value is None else Constant(bias_value)
    layer = nnx.Conv(
        in_features,
        out_features,
        (height, width),
        strides=stride,
        kernel_dilation=dilation,
        padding=[(dilation * (side - 1) // 2,) * 2 for side in (height, width)],
        use_bias=bias,
        kernel_init=kernel_init,
        bias_init=bias_init,
        dtype=jnp.dtype(dtype),
        rngs=rngs,
    )
    declare(layer.kernel, kernel_init)
    if bias:
        declare(layer.bias, bias_init)
    return layer


class Kept(nnx.BatchStat):
    """A published array that no output depends on: kept verbatim, so that a state dict comes back whole."""


class PReLU(nnx.Module):
    """``max(x, 0) + slope · min(x, 0)`` with a slope for every channel, .25 at first (He et al. 2015)."""

    def __init__(self, features: int):
        init = Constant(0.25)
        self.slope = declare(nnx.Param(init(None, (features,))), init)

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        """Like the input."""
        return jnp.where(x > 0, x, self.slope[...].astype(x.dtype) * x)


class ConvNorm(nnx.Module):
    """Convolution and batch normalisation: ``[b, h, w, in] -> [b, h2, w2, out]``.

    ``options`` go to the convolution.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | tuple[int, int] = 3,
        *,
        conv: ConvFactory,
        norm: NormFactory,
        **options,
    ):
        self.conv = conv(in_features, out_features, kernel_size, **options)
        self.norm = norm(out_features)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """``out`` channels at the stride's size."""
        return self.norm(self.conv(x))


class ConvNormReLU(ConvNorm):
    """Convolution, batch normalisation, ReLU: the unit of RSU blocks and of AFIU's fusion."""

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """``out`` channels at the stride's size."""
        return nnx.relu(super().__call__(x))


def resize(
    x: Float[Array, "b h w c"],
    size: tuple[int, int],
    method: Literal["bilinear", "nearest"] = "bilinear",
    *,
    antialias: bool = False,
    align_corners: bool = False,
) -> Float[Array, "b h2 w2 c"]:
    """Resizes the two image axes; the only resize of this package.

    Half-pixel centres with clamped edges, which is ``align_corners=False`` in PyTorch and, for ``nearest`` by a whole
    factor, plain repetition. Every axis is multiplied by a constant matrix, so that it exports to ONNX with a free
    batch size; doubling, the most frequent case, is written as sums of neighbours, since products transpose the whole
    map. Where a gradient is taken, rows are gathered and summed, up to twice the size. Reverse-mode derivatives only.

    Args:
        x: images or feature maps.
        size: new height and width, in pixels.
        method: interpolation.
        antialias: when shrinking, widen the bilinear kernel by the factor. Off, as in PyTorch.
        align_corners: bilinear between the centres of the corner pixels, which stay where they are, as in Caffe and in
            PyTorch's ``align_corners=True``.
    """
    for axis, length in zip((1, 2), size, strict=True):
        old = x.shape[axis]
        if old == length:
            continue
        known = isinstance(old, int) and isinstance(length, int)
        if known and length <= 2 * old and not (antialias and length < old):  # few values in any row and column
            x = _interpolate(x, axis, old, length, method, align_corners)
        else:
            matrix = interpolation_matrix if known else _symbolic_matrix
            x = _multiply(x, matrix(old, length, method, antialias, align_corners), axis)
    return x


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4, 5))
def _interpolate(x: Array, axis: int, old: int, new: int, method: str, align_corners: bool) -> Array:
    """One axis at another length. Where a gradient is taken, both are computed by ``combine``.

    Derived from what is written here, the gradient takes several times as long. A map takes as long in both ways, and
    the ONNX exporter knows this one.
    """
    if new == 2 * old and method == "bilinear" and not align_corners:
        return _double(x, axis)
    return _multiply(x, interpolation_matrix(old, new, method, align_corners=align_corners), axis)


_interpolate.defvjp(
    lambda x, axis, *kind: (combine(x, _sparse_matrix(*kind), axis), None),
    lambda axis, old, new, method, align_corners, _, above: (
        combine(above, _sparse_matrix(old, new, method, align_corners).transposed, axis),
    ),
)


def _multiply(x: Array, matrix: Array | np.ndarray, axis: int) -> Array:
    # With all bits of float32, as resizes elsewhere have: a GPU's products have fewer unless told.
    return jnp.moveaxis(jnp.tensordot(x, matrix.astype(x.dtype), axes=(axis, 1), precision="highest"), -1, axis)


def _double(x: Float[Array, "b h w c"], axis: int) -> Float[Array, "b h2 w2 c"]:
    """An axis at twice its length, bilinearly: every pixel gives two, a quarter of either way to its neighbours."""
    length = x.shape[axis]
    part = partial(jax.lax.slice_in_dim, x, axis=axis)
    before = jnp.concatenate([part(0, 1), part(0, length - 1)], axis)
    after = jnp.concatenate([part(1, length), part(length - 1, length)], axis)
    near = 0.75 * x
    pairs = jnp.stack([near + 0.25 * before, near + 0.25 * after], axis + 1)
    return pairs.reshape(*x.shape[:axis], 2 * length, *x.shape[axis + 1 :])


@cache
def _sparse_matrix(old: int, new: int, method: str, align_corners: bool) -> Sparse:
    return Sparse.of(interpolation_matrix(old, new, method, align_corners=align_corners))


@lru_cache(maxsize=256)
def interpolation_matrix(
    old: int, new: int, method: str = "bilinear", antialias: bool = False, align_corners: bool = False
) -> Float32[np.ndarray, "new old"]:
    """What ``resize`` multiplies one axis by: row i holds the weights of the old pixels in new pixel i, sum 1."""
    scale = old / new
    centre = np.arange(new) * (old - 1) / max(new - 1, 1) if align_corners else (np.arange(new) + 0.5) * scale - 0.5
    if method == "nearest":
        return np.eye(old, dtype=np.float32)[np.floor(centre + 0.5 - 1e-6).astype(int).clip(0, old - 1)]
    support = max(scale, 1.0) if antialias else 1.0
    if support == 1.0:
        centre = centre.clip(0, old - 1)
    weights = np.clip(1 - np.abs(centre[:, None] - np.arange(old)) / support, 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _symbolic_matrix(old, new, method: str, antialias: bool, align_corners: bool) -> Float32[Array, "new old"]:
    """``interpolation_matrix`` of sizes that are known only when an exported program runs (``jax.export``)."""
    if method != "bilinear" or antialias:
        raise NotImplementedError("sizes that are not known yet go with plain bilinear interpolation only")
    old_size, new_size = (jnp.asarray(n).astype(jnp.float32) for n in (old, new))
    if align_corners:
        centre = jnp.arange(new) * ((old_size - 1) / jnp.maximum(new_size - 1, 1))
    else:
        centre = (jnp.arange(new) + 0.5) * (old_size / new_size) - 0.5
    distance = jnp.abs(centre.clip(0, old_size - 1)[:, None] - jnp.arange(old))
    return jnp.clip(1 - distance, 0).astype(jnp.float32)


def upsample2(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Doubles height and width by repeating every pixel (``nearest`` by 2), without a matrix product."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c))
    return x.reshape(b, 2 * h, 2 * w, c)


def count_parameters(module: nnx.Module) -> int:
    """Number of trainable parameters, batch statistics not included. Works on abstract modules too."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))
