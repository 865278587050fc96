"""What must have all bits of float32 on a GPU, which takes fewer for its products unless the program says so."""

import re
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from pocket import Pocket
from two_rsus import TwoRSUs

from afiu_jax.blocks.pyramid_pooling import _window_means
from afiu_jax.interop.stablehlo import _trace
from afiu_jax.layers import resize
from afiu_jax.losses import LOSSES, structural_dissimilarity
from afiu_jax.training.predict_step import predict_program
from afiu_jax.training.state import create_state, graph_of
from afiu_jax.training.statistics import Statistics
from afiu_jax.training.step import make_train_step


def precisions(text):
    """Of all products and convolutions of a program."""
    found = [line for line in text.splitlines() if re.search(r"stablehlo\.(convolution|dot_general)", line)]
    return ["HIGHEST, HIGHEST" in line.replace("#stablehlo<precision ", "").replace(">", "") for line in found]


IMAGES = jax.ShapeDtypeStruct((2, 32, 48, 1), jnp.float32)
GRADIENT = lambda function: jax.grad(lambda *given: function(*given).sum())  # noqa: E731
ALONE = {
    "a resize": partial(resize, size=(96, 96)),
    "its gradient": GRADIENT(partial(resize, size=(96, 96))),
    "a smoothed resize": partial(resize, size=(16, 16), antialias=True),
    "means of windows": partial(_window_means, bins=3),
    "SSIM": lambda maps: structural_dissimilarity(maps, maps),
    "its gradient of the map": GRADIENT(lambda maps: structural_dissimilarity(maps, jnp.ones_like(maps))),
}


@pytest.mark.parametrize("function", ALONE.values(), ids=ALONE)
def test_resizes_and_ssim_have_all_bits(function):
    found = precisions(jax.jit(function).lower(IMAGES).as_text())
    assert found
    assert all(found)


@pytest.fixture(scope="module")
def logits():
    """Of a network in use, by JAX's own choice of precision."""
    model = TwoRSUs(rngs=nnx.Rngs(0))
    model.eval()
    return lambda images: nnx.merge(*nnx.split(model), copy=True)(images).logits


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"remat": True}], ids=str)
@pytest.mark.parametrize("tf32", [True, False])
def test_a_step_has_all_bits_if_told(tf32, options):
    model, optimizer = Pocket(rngs=nnx.Rngs(0)), optax.sgd(0.1)
    step = make_train_step(graph_of(model, training=True), LOSSES["bce"], optimizer, tf32=tf32, **options)
    maps = (jax.ShapeDtypeStruct((2, 8, 8, channels), jnp.float32) for channels in (3, 1))
    found = precisions(step.lower(create_state(model, optimizer), *maps).as_text())
    assert len(found) >= 5  # two convolutions and their gradients, but for the images'
    assert all(found) == (not tf32)


def test_statistics_have_all_bits_if_told(monkeypatch):
    told = []
    monkeypatch.setattr(Pocket, "__call__", lambda *_: told.append(jax.config.jax_default_matmul_precision))
    model = Pocket(rngs=nnx.Rngs(0))
    state = create_state(model, optax.sgd(0.1))
    for tf32 in (True, False):
        Statistics(model, tf32=tf32)._of_batch.lower(state, jnp.ones((1, 8, 8, 3)), jnp.int32(0))
    assert told == [None, "highest"]


def test_maps_and_exported_programs_have_all_bits(logits):
    images = jnp.ones((1, 32, 32, 3))
    usual = precisions(jax.jit(logits).lower(images).as_text())
    assert len(usual) > 10
    assert not all(usual)
    exported = precisions(_trace(SimpleNamespace(maps=logits), "b, 32, 32", []).mlir_module())
    assert len(exported) > 10
    assert all(exported)
    model = TwoRSUs(rngs=nnx.Rngs(0))
    state = nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)
    program = predict_program(graph_of(model, training=False)).lower(*state, images)
    found = precisions(program.as_text())
    assert len(found) > 10
    assert all(found)
