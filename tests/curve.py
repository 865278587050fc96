"""Prints the losses of twenty steps of a tiny network, as JSON: ``python curve.py --network=afiu [--winograd]``.

With ``--winograd``, all its 3×3 convolutions of stride 1 take the way of wide ones.

The number of devices is the environment's: ``XLA_FLAGS=--xla_force_host_platform_device_count=8``. The optimiser is the
paper's at a tenth of its rate. With larger steps, the rounding of sums, whose order depends on the devices, grows with
every step, as any change of a network with small batches does: at the paper's rate, to 1e-6 or 6e-5 in twenty steps,
depending on the images.
"""

import json
import sys
from functools import partial
from itertools import islice

import jax
import numpy as np
import pytest
from conftest import remember_scenes, tiny_config
from flax import nnx
from pocket import add_pocket, pocket_config

from afiu_jax import create_model
from afiu_jax.convolution import cpu, winograd
from afiu_jax.losses import LOSSES
from afiu_jax.training import loop
from afiu_jax.training.devices import on_devices, on_every_device, replicated
from afiu_jax.training.layouts import in_own_layouts
from afiu_jax.training.optimizer import create_optimizer
from afiu_jax.training.state import create_state, graph_of
from afiu_jax.training.step import make_train_step
from input_pipeline.sources import Spec, open_source

CONFIGS = {"afiu": tiny_config, "pocket": pocket_config}
STEPS, BATCH_SIZE, LEARNING_RATE = 20, 16, 1e-6


def train(network: str) -> dict:
    """Losses of the weights before each step; how many programs were compiled for it; what of the state is not whole.

    Each device should hold the whole state. Last, two steps whose compiler may choose how the state lies in memory, and
    how many arrays JAX gave away for them without saying to which new one.
    """
    config = loop.resolve(
        CONFIGS[network](
            train__batch_size=BATCH_SIZE,
            train__learning_rate=LEARNING_RATE,
            data__train__split="train[:32]",
        )
    )
    source = open_source(Spec(**config["data"]["train"]), "salient", seed=0)
    model = create_model(network, rngs=nnx.Rngs(0), **config["model"]["options"])
    optimizer = create_optimizer(config)
    state = on_every_device(create_state(model, optimizer))
    make_step = partial(make_train_step, graph_of(model, training=True), LOSSES["bce"], optimizer)
    step = make_step()
    losses = []
    for batch in islice(loop._train_batches(source, config, 0), STEPS):
        arrays = on_devices(batch)
        with jax.transfer_guard("disallow"):
            state, report = step(state, *arrays)
        losses.append(float(report.loss))
    layouts = make_step(layouts=True, place=replicated())
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), (state, *arrays))
    given_away = layouts.lower(*shapes).as_text().count("jax.buffer_donor")
    in_layouts = in_own_layouts(layouts)
    for _ in range(2):
        state, report = in_layouts(state, *arrays)
    assert np.isfinite(report.loss)
    parted = sum(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state))
    return {
        "devices": jax.device_count(),
        "losses": losses,
        "programs": step._cache_size(),
        "parted": parted,
        "given_away": given_away,
    }


if __name__ == "__main__":
    if "--winograd" in sys.argv:
        winograd._WIDE = cpu._LARGE = 1
    remember_scenes(pytest.MonkeyPatch())
    add_pocket(pytest.MonkeyPatch())
    print(json.dumps(train(sys.argv[1].removeprefix("--network="))))
