"""Losses against plain NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from afiu_jax.losses import LOSSES, binary_cross_entropy
from afiu_jax.networks import Prediction


def test_cross_entropy_is_the_papers_equation_averaged():
    random = np.random.default_rng(0)
    logits, mask = random.standard_normal((2, 4, 4, 1)) * 3, (random.random((2, 4, 4, 1)) > 0.5) * 1.0
    p = 1 / (1 + np.exp(-logits))
    expected = -(mask * np.log(p) + (1 - mask) * np.log(1 - p)).mean()
    logits, mask = jnp.asarray(logits, jnp.float32), jnp.asarray(mask, jnp.float32)
    assert binary_cross_entropy(logits, mask) == pytest.approx(expected, rel=1e-5)
    assert LOSSES["bce"](Prediction(logits), mask) == pytest.approx(expected, rel=1e-5)
    certain = jnp.full((1, 2, 2, 1), 200.0)
    assert jnp.isfinite(binary_cross_entropy(certain, jnp.zeros((1, 2, 2, 1))))


def test_loss_resizes_logits_to_the_mask():
    mask = jnp.ones((1, 8, 8, 1))
    small = LOSSES["bce"](Prediction(jnp.full((1, 4, 4, 1), 2.0)), mask)
    assert small == pytest.approx(np.log1p(np.exp(-2)), rel=1e-5)
