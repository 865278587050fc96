"""Statistics recovered for folded batch normalisations: exact, invisible in use, and those of training."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from afiu_jax.batch_norm import batch_norm
from afiu_jax.blocks.rsu import RSU
from afiu_jax.initializers import materialise, plan
from afiu_jax.interop.calibrate import calibrate
from afiu_jax.layers import conv

NORMS = ("embed.norm", "encode.0.norm", "encode.1.norm", "bottom.norm", "decode.0.norm", "decode.1.norm")


def folded_block() -> RSU:
    """A block whose normalisations are the identity, as after folding; one keeps the shift of a bias."""
    build = lambda rngs: RSU(3, 4, 8, height=3, conv=partial(conv, rngs=rngs), norm=partial(batch_norm, rngs=rngs))  # noqa: E731
    block = materialise(plan(build), jax.random.key(0))
    for unit in (block.embed, *block.encode, block.bottom, *block.decode):
        unit.norm.var[...] = jnp.full_like(unit.norm.var[...], 1 - 1e-5)
    block.bottom.norm.bias[...] = jnp.arange(4.0)
    block.eval()
    return block


@pytest.fixture(scope="module")
def images() -> jax.Array:
    random = np.random.default_rng(0)
    # Pictures of different brightness, so that the variance of their union is more than theirs.
    return jnp.asarray(random.standard_normal((5, 16, 16, 3)) + 3 * np.arange(5)[:, None, None, None], jnp.float32)


@pytest.fixture(scope="module")
def calibrated(images) -> RSU:
    block = folded_block()
    assert calibrate(block, NORMS, np.asarray(images)) == len(images)
    return block


def test_statistics_are_those_of_all_pixels(calibrated, images):
    outputs = np.asarray(calibrated.embed.conv(images), np.float64)
    norm = calibrated.embed.norm
    np.testing.assert_allclose(norm.mean[...], outputs.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], outputs.var((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(norm.scale[...], np.sqrt(outputs.var((0, 1, 2)) + 1e-5), rtol=1e-5)
    np.testing.assert_allclose(norm.bias[...], norm.mean[...], rtol=1e-5)


def test_use_is_unchanged(calibrated, images):
    np.testing.assert_allclose(calibrated(images), folded_block()(images), atol=1e-5, rtol=0)
    shift = calibrated.bottom.norm.bias[...] - calibrated.bottom.norm.mean[...]
    np.testing.assert_allclose(shift, np.arange(4.0), atol=1e-5)


def test_training_on_the_same_photos_gives_the_same_maps(calibrated, images):
    """A batch's own statistics are the recovered ones, so nothing changes; folded, they undo what was folded."""
    expected = folded_block()(images)
    training = nnx.clone(calibrated)
    training.train()
    np.testing.assert_allclose(training(images), expected, atol=1e-3)
    np.testing.assert_allclose(training.decode[1].norm.mean[...], calibrated.decode[1].norm.mean[...], rtol=1e-3)
    undone = folded_block()
    undone.train()
    assert abs(undone(images) - expected).max() > 1
