"""A network of two convolutions, added as README says: what a run does around its steps takes seconds with it.

``python train.py --config=tests/pocket.py``, with this folder in ``PYTHONPATH``, is a tiny run of it.
"""

import sys
from types import ModuleType
from typing import ClassVar

import pytest
from conftest import tiny_config
from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.batch_norm import batch_norm
from afiu_jax.interop import names
from afiu_jax.layers import conv, resize
from afiu_jax.losses import DEFAULT_LOSS
from afiu_jax.networks import NETWORKS
from afiu_jax.networks.prediction import Prediction
from afiu_jax.networks.sizes import LegalSizes


class Pocket(nnx.Module):
    """A convolution, its normalisation, and a head: the least that is a network here."""

    sizes = LegalSizes(multiple=2)
    normalization = "imagenet"
    presets: ClassVar = {}

    def __init__(self, width: int = 4, *, rngs: nnx.Rngs):
        self.stem, self.norm = conv(3, width, 3, stride=2, rngs=rngs), batch_norm(width, rngs=rngs)
        self.head = conv(width, 1, 3, rngs=rngs)

    def __call__(self, images: Float[Array, "b h w 3"]) -> Prediction:
        return Prediction(resize(self.head(nnx.relu(self.norm(self.stem(images)))), images.shape[1:3]))


def add_pocket(patch: pytest.MonkeyPatch) -> None:
    """Adds it to the networks."""
    patch.setitem(NETWORKS, "pocket", Pocket)
    patch.setitem(DEFAULT_LOSS, "pocket", "bce")


def add_names(patch: pytest.MonkeyPatch, network: str = "pocket") -> None:
    """Gives it published names, its own, under which it is exported and imported."""
    own = ModuleType(f"{names.__name__}.{network}")
    own.module_name = lambda model, path: path
    patch.setitem(sys.modules, own.__name__, own)


def pocket_config(task: str = "sod", **overrides):
    """``tiny_config`` with this network."""
    config = tiny_config(task, model__name="pocket", **overrides)
    config.model.options = {}
    return config


def pocket_flags(**overrides) -> list[str]:
    """Other values than those of ``get_config``, as flags of train.py."""
    return [f"--config.{key.replace('__', '.')}={value}" for key, value in overrides.items()]


def get_config():
    """A configuration file's function; its process has this network from then on."""
    add_pocket(pytest.MonkeyPatch())
    return pocket_config()
