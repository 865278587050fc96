"""What takes minutes: `uv run pytest -m slow -n 0`."""

import re
import time

import jax
import jax.numpy as jnp
import pytest
from conftest import run_command
from flax import nnx

from afiu_jax import create_model
from afiu_jax.losses import LOSSES
from afiu_jax.training.config import resolve
from afiu_jax.training.optimizer import create_optimizer
from afiu_jax.training.schema import base_config
from afiu_jax.training.state import create_state, graph_of
from afiu_jax.training.step import make_train_step

pytestmark = pytest.mark.slow


def test_the_full_network_is_created_in_seconds_and_learns():
    began = time.monotonic()
    model = create_model("afiu", rngs=nnx.Rngs(0))
    jax.block_until_ready(nnx.state(model))
    assert time.monotonic() - began < 15
    optimizer = create_optimizer(resolve(base_config()))
    state = create_state(model, optimizer)
    step = make_train_step(graph_of(model, training=True), LOSSES["bce"], optimizer)
    images = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
    masks = jnp.zeros((2, 64, 64, 1)).at[:, 16:48, 16:48].set(1)
    losses = []
    for _ in range(4):
        state, report = step(state, images, masks)
        losses.append(float(report.loss))
    assert losses[-1] < losses[0]


def test_the_demo_takes_five_minutes_and_shows_the_prior_helping(tmp_path):
    began = time.monotonic()
    done = run_command("-m", "afiu_jax.cli", "demo", "--out", tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 300
    table = {title: float(mae) for title, mae in re.findall(r"│ (DBD from \w+)\s+│ (\d\.\d+)", done.stdout)}
    assert table["DBD from SOD"] < table["DBD from scratch"]
