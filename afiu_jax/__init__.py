"""Defocus blur detection with a salient-object prior (AFIU, arXiv 2011.09677) in JAX/Flax.

blur_map = afiu_jax.load("u2netp-dbd").predict("photo.jpg")  # float32 [h, w] in 0…1; 1 = blurred
"""

import time
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from afiu_jax.inference import Predictor, load, load_network
    from afiu_jax.networks import Prediction, create_model

__all__ = ["Prediction", "Predictor", "create_model", "load", "load_network"]

IMPORTED = time.time()
"""When this process began to load the package, in seconds since 1970."""

_HOMES = {
    "Prediction": "networks",
    "Predictor": "inference",
    "create_model": "networks",
    "load": "inference",
    "load_network": "inference",
}


def __getattr__(name: str):
    # On first use only: JAX takes seconds to import, and `afiu --help` does not need it.
    if name in _HOMES:
        return getattr(import_module(f"afiu_jax.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
