"""Whether a network learns: its small preset on one batch of generated scenes, with its own loss."""

import numpy as np
import optax

from afiu_jax import create_model
from afiu_jax.losses import DEFAULT_LOSS, LOSSES
from afiu_jax.networks import NETWORKS
from afiu_jax.training.state import create_state, graph_of
from afiu_jax.training.step import make_train_step
from input_pipeline.loader import Preparation
from input_pipeline.scenes import Scenes

STEPS = 30


def loss_ratio(name: str, *, side: int = 64, batch_size: int = 4, learning_rate: float = 1e-3) -> float:
    """The last loss over the first one, of 30 steps with Adam.

    Args:
        name: the network's key in ``NETWORKS``.
        side: of the square images, in pixels.
        batch_size: number of images.
        learning_rate: of Adam.
    """
    scenes, preparation = Scenes("salient", size=side), Preparation((side, side), NETWORKS[name].normalization)
    records = [preparation.finish(scenes[i]) for i in range(batch_size)]
    images, masks = (np.stack([record[key] for record in records]) for key in ("image", "mask"))
    model = create_model(name, **NETWORKS[name].presets["small"])
    optimizer = optax.adam(learning_rate)
    state = create_state(model, optimizer)
    train_step = make_train_step(graph_of(model, training=True), LOSSES[DEFAULT_LOSS[name]], optimizer)
    losses = []
    for _ in range(STEPS):
        state, report = train_step(state, images, masks)
        losses.append(float(report.loss))
    return losses[-1] / losses[0]
