"""The optimisers that the networks were published with."""

import jax
import jax.numpy as jnp
import optax

from afiu_jax.training.finetuning import frozen_part, l2_sp, slow_encoder, train_all_but
from afiu_jax.training.packing import on_packed
from afiu_jax.training.schema import Resolved


def create_optimizer(config: Resolved, steps_per_epoch: int = 1) -> optax.GradientTransformation:
    """Adam as the paper uses it (section 3.3: constant learning rate, no weight decay), or what ``train.*`` says.

    Gradients are clipped first; weight decay and the pull towards the first weights (``train.l2sp``) are added to them
    before the moments, as PyTorch does with weight decay. ``train.freeze`` and ``train.layerwise_decay`` decide what
    moves, and how much of a step an encoder's level takes.

    Args:
        config: a resolved configuration.
        steps_per_epoch: what schedules that change once an epoch count by.
    """
    train = config["train"]
    parts = []
    if train["clip_value"]:
        parts.append(optax.clip(train["clip_value"]))
    if train["clip_norm"]:
        parts.append(optax.clip_by_global_norm(train["clip_norm"]))
    if train["weight_decay"]:
        parts.append(
            optax.add_decayed_weights(train["weight_decay"], _kernels if train["decay_kernels_only"] else None)
        )
    if train["l2sp"]:
        parts.append(l2_sp(train["l2sp"]))
    if train["optimizer"] == "adam":
        parts.append(optax.scale_by_adam(b1=train["beta1"], b2=train["beta2"], eps=1e-8))
    else:
        parts.append(optax.trace(decay=train["momentum"]))
    parts.append(optax.scale_by_learning_rate(learning_rate(config, steps_per_epoch)))
    optimizer = on_packed(optax.chain(*parts))
    if train["layerwise_decay"] != 1:
        optimizer = optax.chain(optimizer, slow_encoder(config["model"]["name"], train["layerwise_decay"]))
    return train_all_but(frozen_part(config), optimizer) if train["freeze"] else optimizer


def learning_rate(config: Resolved, steps_per_epoch: int) -> float | optax.Schedule:
    """``train.learning_rate``, or a function of the step.

    ``poly``: times ``(1 - epoch / train.num_epochs) ** 0.9``, once an epoch (MINet); if ``train.num_steps`` says how
    long the run is, times ``(1 - step / train.num_steps) ** 0.9``. ``step``: times 0.1 at each of
    ``train.milestones``, in epochs (CPD, SUN).
    """
    train = config["train"]
    rate = train["learning_rate"]
    if train["schedule"] == "poly":
        if steps := train["num_steps"]:
            return lambda step: rate * jnp.maximum(1 - step / steps, 0) ** 0.9
        return lambda step: rate * jnp.maximum(1 - (step // steps_per_epoch) / train["num_epochs"], 0) ** 0.9
    if train["schedule"] == "step":
        boundaries = {epoch * steps_per_epoch: 0.1 for epoch in train["milestones"]}
        return optax.piecewise_constant_schedule(rate, boundaries)
    return rate


def _kernels(params: optax.Params) -> optax.Params:
    """True for the kernels of convolutions, False for biases and normalisations."""
    return jax.tree_util.tree_map_with_path(lambda path, _: "kernel" in jax.tree_util.keystr(path), params)
