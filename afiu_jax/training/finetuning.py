"""What fine-tuning can do other than train all weights alike: freeze the encoder, slow it down, stay near the start."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from afiu_jax.networks.encoders import encoder_level, encoder_levels

Frozen = Callable[[str], bool]
"""Whether a sub-module of the network, by its name, keeps its weights and its statistics."""


def nothing_frozen(module: str) -> bool:
    """That every sub-module trains."""
    return False


def frozen_part(config: dict) -> Frozen:
    """What ``train.freeze`` says: nothing, or the network's encoder."""
    if not config["train"]["freeze"]:
        return nothing_frozen
    return lambda module: encoder_level(config["model"]["name"], module) is not None


def stop_gradients(params: optax.Params, frozen: Frozen) -> optax.Params:
    """The same parameters, with no gradient for the frozen ones."""
    stop = lambda path, leaf: jax.lax.stop_gradient(leaf) if frozen(_module(path)) else leaf  # noqa: E731
    return jax.tree_util.tree_map_with_path(stop, params)


def train_all_but(frozen: Frozen, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimiser for what is not frozen; the rest has neither updates nor moments."""
    label = lambda path, _: "frozen" if frozen(_module(path)) else "trained"  # noqa: E731
    labels = partial(jax.tree_util.tree_map_with_path, label)
    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def slow_encoder(network: str, decay: float) -> optax.GradientTransformation:
    """Layer-wise learning rates: ``decay`` to the power of a level's distance from the decoder, times every update.

    The decoder has distance 0, the encoder's last level 1, the one at the image as many as there are levels (Howard
    and Ruder, "Universal Language Model Fine-tuning", 2018, section 3.2, with levels for layers).
    """
    levels = encoder_levels(network)

    def slower(path, update):
        level = encoder_level(network, _module(path))
        return update if level is None else update * decay ** (levels - level)

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(slower, updates))


class StartState(NamedTuple):
    """The weights with which a run began."""

    start: optax.Params


def l2_sp(strength: float) -> optax.GradientTransformation:
    """Adds the gradient of ``strength / 2 · ‖w − w₀‖²`` for the weights w₀ with which the run began.

    L²-SP (Li, Grandvalet, Davoine, "Explicit Inductive Bias for Transfer Learning", ICML 2018, section 3.1). Every
    weight is transferred here, the head as well, so that all have a w₀. The state holds it for runs that resume.
    """

    def init(params: optax.Params) -> StartState:
        return StartState(jax.tree.map(jnp.copy, params))  # the step gives the memory of the parameters away

    def update(updates, state, params):
        pulled = jax.tree.map(lambda u, w, w0: u + strength * (w - w0), updates, params, state.start)
        return pulled, state

    return optax.GradientTransformation(init, update)


def _module(path) -> str:
    """The sub-module that a parameter belongs to."""
    return str(path[0].key)
