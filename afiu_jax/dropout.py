"""Dropout whose choices are a function of a key, so that a run that resumes makes the same ones.

The train step opens ``dropout_key`` with a key made of the run's seed and the step; every dropout layer that is called
inside draws from it. Networks without dropout know nothing of it, and nothing is stored between steps.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

_keys: ContextVar[Iterator[jax.Array] | None] = ContextVar("dropout keys", default=None)


@contextmanager
def dropout_key(key: jax.Array) -> Iterator[None]:
    """Inside, dropout layers draw from ``key``, each from a part of its own in the order of their calls."""
    token = _keys.set(jax.random.fold_in(key, i) for i in itertools.count())
    try:
        yield
    finally:
        _keys.reset(token)


class ChannelDropout(nnx.Module):
    """Sets whole channels of a map to zero in training and enlarges the others to keep the mean; PyTorch's Dropout2d.

    Outside of ``dropout_key`` every call in training drops the same channels, and so does every layer of an
    ``nnx.scan``, whose function is called once for all.

    Args:
        rate: probability of a channel to be dropped, at least 0 and less than 1.

    Raises:
        ValueError: another rate.
    """

    def __init__(self, rate: float):
        if not 0 <= rate < 1:
            raise ValueError(f"a dropout of {rate} is not at least 0 and less than 1")
        self.rate = float(rate)
        self.deterministic = False

    def __call__(self, x: Float[Array, "b ... c"]) -> Float[Array, "b ... c"]:
        """The map, or tokens, without some channels of each image in training."""
        if self.deterministic or self.rate == 0:
            return x
        keys = _keys.get()
        key = jax.random.key(0) if keys is None else next(keys)
        kept = jax.random.bernoulli(key, 1 - self.rate, (x.shape[0], *(1,) * (x.ndim - 2), x.shape[-1]))
        return jnp.where(kept, x / (1 - self.rate), 0)
