"""Kernels that are filtered once for maps of many photos, not for each."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float

from afiu_jax.convolution.cpu import convolve_in_use
from afiu_jax.convolution.taps import Pair, padding_in_pixels
from afiu_jax.convolution.winograd import convolve_3x3, filter_kernel, is_wide_3x3


class FilteredKernel(nnx.Variable):
    """What ``winograd.filter_kernel`` makes of a kernel, kept beside it."""


class FilteredConvolution(nnx.Module):
    """A convolution with a kernel that is filtered once, not for every image.

    By the kernel alone: with nothing to filter, maps of any size are faster so (AFIU's at 320 px: 0.94 with those that
    ``cpu.convolve`` takes).
    """

    def __init__(self, filtered: Float[Array, "16 c f"]):
        self.filtered = FilteredKernel(filtered)

    def __call__(
        self, x: Float[Array, "b h w c"], kernel: Array, strides: Pair, padding: str | Sequence[Pair], **_: object
    ) -> Float[Array, "b h2 w2 f"]:
        """As ``cpu.convolve``; ``kernel`` is the one that was filtered, of which only the shape is looked at."""
        return convolve_3x3(x, self.filtered[...], padding_in_pixels(x, kernel, strides, padding, (1, 1)))


def filter_kernels(model: nnx.Module, params: nnx.State) -> nnx.State:
    """Filters the wide kernels of a network in use once, which ``cpu.convolve`` does whenever it meets a large map.

    Half a second, and 1 GB from then on, for AFIU, whose map takes a tenth less. Where no kernel is wide enough, as in
    U²-Netp, nothing is done; nor where convolutions are left to XLA, see ``suit_platform``, or a kernel is changed
    in every call: by a mask, a class made of ``nnx.Conv``, a ``promote_dtype`` of one's own or Flax's weight norms.

    Args:
        model: the network, abstract or not, which is set to expect them, in place.
        params: its weights.

    Returns:
        The filtered kernels: part of the network's state from now on, beside the weights.
    """
    kernels = {path[:-1]: variable[...] for path, variable in nnx.to_flat_state(params) if path[-1] == "kernel"}
    modules = list(nnx.iter_modules(model))
    rewritten = [path for path, module in modules if isinstance(module, nnx.SpectralNorm | nnx.WeightNorm)]
    wide = {}
    for path, module in modules:
        # Of a kernel that two convolutions share, only one is filtered: the state has it under one name.
        if path not in kernels or not _uses_its_kernel(module) or any(path[: len(r)] == r for r in rewritten):
            continue
        strides, dilation = (np.broadcast_to(n or 1, 2).tolist() for n in (module.strides, module.kernel_dilation))
        dtype = jnp.dtype(module.dtype or module.param_dtype)
        if kernels[path].ndim == 4 and is_wide_3x3(module.kernel_shape, strides, dilation, dtype):
            wide[path] = module
    filtered = jax.jit(lambda kernels: [filter_kernel(kernel.astype(jnp.float32)) for kernel in kernels])(
        [kernels[path] for path in wide]
    )
    for module, kernel in zip(wide.values(), filtered, strict=True):
        module.conv_general_dilated = nnx.data(FilteredConvolution(kernel))
    return nnx.state(model, FilteredKernel)


def _uses_its_kernel(module: nnx.Module) -> bool:
    """Whether a module is a plain convolution that ``convolve_in_use`` computes, with its kernel as it lies there."""
    # A class made of it may change the kernel when it is called, as may types' conversion where it is one's own.
    as_it_lies = type(module) is nnx.Conv and module.mask is None and module.promote_dtype is promote_dtype
    return as_it_lies and module.feature_group_count == 1 and module.conv_general_dilated is convolve_in_use
