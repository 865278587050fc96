"""Which functions compute a network's convolutions, and maps side by side: by platform and purpose, up to rounding."""

import jax
from flax import nnx

from afiu_jax.convolution import cpu, gpu
from afiu_jax.convolution.mixed_precision import is_replaceable
from afiu_jax.side_by_side import SideBySide, concatenate, sum_of_padded

IN_TRAINING = {"cpu": cpu.convolve, "gpu": gpu.convolve}
"""By platform; on others it is ``jax.lax.conv_general_dilated``, as in exported programs.

Training in a type narrower than float32 has ``mixed_precision.convolve`` on all of them.
"""

IN_USE = {"cpu": cpu.convolve_in_use, "gpu": gpu.convolve}
"""The same for maps, where no gradient is taken."""


def suit_platform(model: nnx.Module, platform: str | None, *, training: bool) -> None:
    """Has the network's convolutions, and maps side by side, computed as suits a platform, in place.

    Convolutions of spread-out maps or with a type for sums (``preferred_element_type``) stay with XLA, grouped ones on
    all platforms but CPUs, and those that were given a function of their own with this.

    Args:
        model: the network, abstract or not.
        platform: ``cpu``, ``gpu``, …; None: what JAX runs on.
        training: whether gradients are taken; else it is for maps.
    """
    platform = platform or jax.default_backend()
    convolve = (IN_TRAINING if training else IN_USE).get(platform, jax.lax.conv_general_dilated)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, SideBySide):
            module.concatenate = sum_of_padded if platform == "cpu" and not training else concatenate
        elif isinstance(module, nnx.Conv) and len(module.kernel_size) == 2:
            plain = module.input_dilation in (None, 1, (1, 1)) and module.preferred_element_type is None
            if plain and is_replaceable(module) and (module.feature_group_count == 1 or platform == "cpu"):
                module.conv_general_dilated = convolve
