"""Dropout of whole channels: what it does, and that seed and step decide it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from afiu_jax.dropout import ChannelDropout, dropout_key
from afiu_jax.networks import Prediction
from afiu_jax.training.state import create_state, graph_of
from afiu_jax.training.step import make_train_step


def test_channels_are_dropped_whole_and_the_mean_stays():
    dropout, x = ChannelDropout(0.25), jnp.ones((8, 3, 2, 500))
    with dropout_key(jax.random.key(1)):
        first, second = dropout(x), dropout(x)
    with dropout_key(jax.random.key(1)):
        again = dropout(x)
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()
    assert (first == first[:, :1, :1]).all()
    assert set(np.unique(first)) == {0, np.float32(1) / np.float32(0.75)}
    assert abs(float(first.mean()) - 1) < 0.03


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0])
def test_a_rate_that_leaves_nothing_is_refused(rate):
    with pytest.raises(ValueError, match=f"a dropout of {rate} is not at least 0 and less than 1"):
        ChannelDropout(rate)


def test_nothing_is_dropped_in_use():
    dropout, x = ChannelDropout(0.5), jnp.ones((1, 2, 2, 8))
    assert (dropout(x) != x).any()
    dropout.eval()
    np.testing.assert_array_equal(dropout(x), x)


def test_seed_and_step_decide():
    class Network(nnx.Module):
        def __init__(self):
            self.scale = nnx.Param(jnp.ones(64))
            self.dropout = ChannelDropout(0.5)

        def __call__(self, image):
            return Prediction((self.dropout(self.scale * image.mean(-1, keepdims=True)) ** 2).mean(-1, keepdims=True))

    optimizer = optax.sgd(0.0)
    images, masks = jnp.ones((2, 4, 4, 3)), jnp.ones((2, 4, 4, 1))

    def losses(seed, *, start=0, steps=3):
        model = Network()
        step = make_train_step(graph_of(model, training=True), lambda p, _: p.logits.mean(), optimizer, seed=seed)
        state, found = create_state(model, optimizer), []
        state = state.replace(step=state.step + start)
        for _ in range(steps):
            state, report = step(state, images, masks)
            found.append(float(report.loss))
        return found

    whole = losses(0)
    assert len(set(whole)) == 3
    assert losses(0, start=2, steps=1) == whole[2:]
    assert losses(1) != whole
