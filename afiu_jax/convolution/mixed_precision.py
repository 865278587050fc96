"""Convolutions in a type narrower than their weights: whose gradient casts the weights late, and sums in float32.

Weights stay float32 and are cast where they are used. Left to itself, the compiler casts them all for the backward pass
as soon as that begins, since nothing else is needed for it, and keeps a second copy of the network through it: 0.2 GB
of AFIU's 3.6 in bfloat16 (``benchmarks/README.md``).

A bias's gradient is a sum over all pixels of a batch. In bfloat16, with its eight bits, such a sum stops growing after
a few hundred of them.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float

from afiu_jax.convolution import cpu, gpu
from afiu_jax.convolution.filtered import FilteredConvolution
from afiu_jax.convolution.remat import keep


def set_late_casts(model: nnx.Module, on: bool) -> None:
    """Has those of the network's convolutions that compute in a narrower type than float32 cast late, in place.

    Off, they cast by Flax's rules; what computes them is left as it is. On, it replaces what ``suit_platform`` set,
    on every platform and in grouped ones, too. Convolutions that were given functions of their own keep these,
    and classes made of ``nnx.Conv`` with a call of their own get their bias cast as by Flax.
    """
    for _, module in nnx.iter_modules(model):
        # Without a type of its own, Flax's default, a convolution computes in the wider one of its maps and weights.
        if not isinstance(module, nnx.Conv) or module.dtype is None:
            continue
        casts_as_usual = module.promote_dtype in _CASTS and is_replaceable(module)
        if jnp.dtype(module.dtype) != jnp.dtype(module.param_dtype) and casts_as_usual:
            # A class of one's own may do other things with a bias than to add it.
            is_flaxs = type(module).__call__ is nnx.Conv.__call__
            module.promote_dtype = (_cast_the_map if is_flaxs else _cast_all_but_the_kernel) if on else promote_dtype
            if on:
                module.conv_general_dilated = convolve


def is_replaceable(module: nnx.Conv) -> bool:
    """Whether a convolution is computed by JAX's function or one of this package, not by one that it was given."""
    function = module.conv_general_dilated
    ours = (cpu.convolve, cpu.convolve_in_use, gpu.convolve, convolve, jax.lax.conv_general_dilated)
    return function in ours or isinstance(function, FilteredConvolution)


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c2 f"],
    strides: Sequence[int],
    padding: str | Sequence[Sequence[int]],
    *,
    out_sharding: None = None,
    **options: object,
) -> Float[Array, "b h2 w2 f"]:
    """``gpu.convolve`` in the type of ``x``, with a kernel of another type.

    Args:
        x: maps.
        kernel: height, width, input channels of a group, output channels; usually float32.
        strides: of either axis, in pixels.
        padding: rows above and below, columns left and right; or ``SAME``, ``VALID``.
        out_sharding: is left to the compiler.
        options: as ``conv_general_dilated`` takes them.
    """
    padding = padding if isinstance(padding, str) else tuple(tuple(pair) for pair in padding)
    options |= {"strides": tuple(strides), "padding": padding}
    found = _convolve(x, kernel, tuple(options.items()))
    # Policies of jax.checkpoint look for convolutions, and see none inside a function with a gradient of its own.
    return keep(found, kernel.shape)


def _cast_the_map(arrays, *, dtype, **_: object):
    x, kernel, bias = arrays
    return x.astype(dtype), kernel, None if bias is None else _Bias(bias)


def _cast_all_but_the_kernel(arrays, *, dtype, **_: object):
    x, kernel, bias = arrays
    return x.astype(dtype), kernel, None if bias is None else bias.astype(dtype)


_CASTS = (promote_dtype, _cast_the_map, _cast_all_but_the_kernel)


class _Bias:
    """A bias as Flax treats it, which brings it to the maps' number of axes and adds it to them."""

    def __init__(self, values: Array):
        self.values, self.shape, self.ndim = values, values.shape, values.ndim

    def reshape(self, _: tuple[int, ...]) -> "_Bias":
        return self

    def __radd__(self, y: Array) -> Array:
        return _add_bias(y, self.values)


@jax.custom_vjp
def _add_bias(y: Array, bias: Array) -> Array:
    return y + bias.astype(y.dtype)


def _sum_wide(bias_like: Array, above: Array) -> tuple[Array, Array]:
    return above, above.sum(range(above.ndim - 1), dtype=bias_like.dtype)


_add_bias.defvjp(lambda y, bias: (_add_bias(y, bias), bias), _sum_wide)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: Array, kernel: Array, options: tuple) -> Array:
    return gpu.convolve(x, kernel.astype(x.dtype), **dict(options))


def _forward(x, kernel, options):
    return _convolve(x, kernel, options), (x, kernel)


def _backward(options, kept, above):
    x, kernel = kept
    kernel, above = jax.lax.optimization_barrier((kernel, above))  # so that the cast waits for the gradient above
    compute = partial(gpu.convolve, **dict(options))
    to_x, to_kernel = jax.vjp(compute, x, kernel.astype(x.dtype))[1](above)
    return to_x, to_kernel.astype(kernel.dtype)


_convolve.defvjp(_forward, _backward)
