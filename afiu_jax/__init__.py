"""Defocus blur detection with a salient-object prior (AFIU, arXiv 2011.09677) in JAX/Flax."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from afiu_jax.networks import Prediction, create_model

__all__ = ["Prediction", "create_model"]


def __getattr__(name: str):
    # On first use only: JAX takes seconds to import, and `afiu --help` does not need it.
    if name in __all__:
        from afiu_jax import networks

        return getattr(networks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
