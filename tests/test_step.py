"""A training step by itself: what its program leaves out, what it says of the gradient, and Adam's."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import tiny_config
from flax import nnx

from afiu_jax.layers import conv
from afiu_jax.networks import Prediction
from afiu_jax.training.config import resolve
from afiu_jax.training.optimizer import create_optimizer
from afiu_jax.training.state import create_state, graph_of
from afiu_jax.training.step import _norm_on_cpu, make_train_step


class Layers(nnx.Module):
    """Four convolutions, one after the other."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.layers = nnx.List(conv(i, o, 3, rngs=rngs) for i, o in ((3, 24), (24, 24), (24, 24), (24, 1)))

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return Prediction(x)


def test_a_steps_norm_is_how_far_it_goes_at_rate_1_and_a_cpu_copies_no_kernel():
    model = Layers()
    graph, state = graph_of(model, training=True), create_state(model, optimizer := optax.sgd(1.0))
    random = np.random.default_rng(0)
    images, masks = (jnp.asarray(random.random((2, 16, 16, n), np.float32)) for n in (3, 1))
    before = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(state.params)]

    step = (
        make_train_step(graph, lambda found, masks: jnp.square(found.logits - masks).mean(), optimizer)
        .lower(state, images, masks)
        .compile()
    )
    following, report = step(state, images, masks)
    moved = [
        old - np.asarray(new, np.float64) for old, new in zip(before, jax.tree.leaves(following.params), strict=True)
    ]
    np.testing.assert_allclose(report.gradient_norm, np.sqrt(sum((way**2).sum() for way in moved)), rtol=1e-5)
    if jax.default_backend() == "cpu":
        # Without the barrier, for gradients that may still need it.
        assert re.search(r"%state_params\w*kernel\S* = ", step.as_text())
        assert not re.findall(r"copy\([^)\n]*%state_params\w*kernel", step.as_text())


@pytest.mark.parametrize(
    "shapes", [[(3, 3, 100, 100), (40,)], [(3, 3, 100, 100), (70_000,)], [(300, 300)], [(1, 1, 9, 7), ()]], ids=str
)
def test_the_norm_of_large_and_of_small_arrays(shapes):
    random = np.random.default_rng(0)
    arrays = [random.standard_normal(shape, np.float32) for shape in shapes]
    expected = np.linalg.norm(np.concatenate([np.ravel(array) for array in arrays]).astype(np.float64))
    found = _norm_on_cpu(nnx.State(dict(enumerate(map(jnp.asarray, arrays)))))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_adam_takes_the_papers_step():
    """Bias-corrected Adam by hand, against the optimiser that a configuration makes."""
    config = resolve(tiny_config(train__learning_rate=0.01, train__weight_decay=0.1))
    optimizer = create_optimizer(config)
    w, gradients = np.array([1.0, -2.0]), np.array([[0.5, 0.1], [-0.2, 0.3]])
    params = {"w": jnp.asarray(w)}
    state, m, v = optimizer.init(params), np.zeros(2), np.zeros(2)
    for t, g in enumerate(gradients, start=1):
        updates, state = optimizer.update({"w": jnp.asarray(g)}, state, params)
        params = optax.apply_updates(params, updates)
        g = g + 0.1 * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(params["w"], w, rtol=1e-5)
