"""What must have all bits of float32 on a GPU, which takes fewer for its products unless the program says so."""

import re
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from two_rsus import TwoRSUs

from afiu_jax.blocks.pyramid_pooling import _window_means
from afiu_jax.interop.stablehlo import _trace
from afiu_jax.layers import resize
from afiu_jax.losses import structural_dissimilarity
from afiu_jax.training.predict_step import predict_program
from afiu_jax.training.state import graph_of


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
