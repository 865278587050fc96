"""Defocus blur detection with a salient-object prior (AFIU, arXiv 2011.09677) in JAX/Flax."""

from afiu_jax.networks import Prediction, create_model

__all__ = ["Prediction", "create_model"]
