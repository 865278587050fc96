"""Convolutions as matrix products against XLA's own: the same values and gradients, and where which is taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from one_program import QUICKLY_COMPILED, values_and_gradients
from two_rsus import TwoRSUs

from afiu_jax import create_model
from afiu_jax.convolution import cpu
from afiu_jax.convolution.cpu import convolve, convolve_in_use
from afiu_jax.convolution.remat import is_repeatable
from afiu_jax.training.state import graph_of

# Side of the map, channels in and out, kernel, stride, dilation.
AS_PRODUCT = {
    "1x1": (12, 6, 8, (1, 1), 1, 1),
    "1x1, every second pixel": (13, 6, 8, (1, 1), 2, 1),
    "few pixels, many channels": (5, 512, 512, (3, 3), 1, 1),
    "few pixels, every second": (9, 512, 512, (3, 3), 2, 1),
    "few pixels, dilated": (7, 512, 512, (3, 3), 1, 2),
    "few pixels, a row": (6, 512, 512, (1, 3), 1, 1),
    "many pixels and channels": (15, 160, 128, (3, 3), 1, 1),
    "a head": (20, 16, 1, (3, 3), 1, 1),
    "a dilated head": (20, 16, 3, (3, 3), 1, 2),
}
AS_CONVOLUTION = {
    "many pixels": (12, 512, 512, (3, 3), 1, 1),
    "few channels": (5, 64, 64, (3, 3), 1, 1),
    "many pixels and channels, every second": (30, 128, 128, (3, 3), 2, 1),
    "many pixels and channels, dilated": (15, 128, 128, (3, 3), 1, 2),
    "many pixels and channels, a row": (15, 128, 128, (1, 3), 1, 1),
    "many pixels, few channels": (20, 64, 64, (3, 3), 1, 1),
    "a head, every second pixel": (20, 16, 1, (3, 3), 2, 1),
}


WITH_A_ROW_MORE = {
    "narrow, to as many": (60, 24, 24, (3, 3), 1, 1),
    "narrow, to more": (60, 5, 64, (3, 3), 1, 1),
    "narrow, dilated": (60, 24, 24, (3, 3), 1, 4),
    "narrow, five rows": (60, 24, 24, (5, 3), 1, 1),
    "narrow, a row": (60, 24, 24, (1, 3), 1, 1),
}
AS_IN_TRAINING = {
    "few pixels": (40, 24, 24, (3, 3), 1, 1),
    "to fewer": (60, 32, 24, (3, 3), 1, 1),
    "YNNPACK takes none so narrow": (60, 8, 16, (3, 3), 1, 1),
    "not narrow": (60, 64, 65, (3, 3), 1, 1),
    "every second pixel": (120, 24, 24, (3, 3), 2, 1),
    "1x1": (60, 24, 24, (1, 1), 1, 1),
}


@pytest.fixture
def quick_eigen(monkeypatch):
    """Maps as with jax 0.10, whichever this is."""
    monkeypatch.setattr(cpu, "_EIGEN_IS_QUICKER", True)


def case(side, channels, features, kernel, stride, dilation):
    random = np.random.default_rng(0)
    x = random.standard_normal((2, side, side + 1, channels), np.float32)
    weights = random.standard_normal((*kernel, channels, features), np.float32) / channels**0.5
    padding = [(dilation * (tap - 1) // 2,) * 2 for tap in kernel]
    options = {"rhs_dilation": (dilation, dilation), "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    return x, weights, lambda compute: lambda x, w: compute(x, w, (stride, stride), padding, **options)


@pytest.mark.parametrize("name", AS_PRODUCT)
def test_a_product_has_the_values_and_gradients_of_the_convolution(name):
    x, weights, way = case(*AS_PRODUCT[name])
    ways = way(convolve), way(jax.lax.conv_general_dilated)
    for ours, theirs in zip(*values_and_gradients(ways, (x, weights)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("name", AS_PRODUCT | AS_CONVOLUTION)
def test_where_a_product_is_taken(name):
    x, weights, way = case(*(AS_PRODUCT | AS_CONVOLUTION)[name])
    program = str(jax.make_jaxpr(way(convolve))(x, weights))
    assert ("conv_general_dilated" in program) == (name in AS_CONVOLUTION)
    assert ("dot_general" in program) == (name in AS_PRODUCT)


@pytest.mark.parametrize("name", WITH_A_ROW_MORE | AS_IN_TRAINING)
def test_where_a_row_more_is_computed_for_maps_and_cut_off(name, quick_eigen):
    x, weights, way = case(*(WITH_A_ROW_MORE | AS_IN_TRAINING)[name])
    x, weights = jnp.asarray(x), jnp.asarray(weights)
    program = str(jax.make_jaxpr(way(convolve_in_use))(x, weights))
    assert (f"f32[2,{len(x[0]) + 1}," in program) == (name in WITH_A_ROW_MORE)
    expected = way(jax.lax.conv_general_dilated)(x, weights)
    np.testing.assert_allclose(way(convolve_in_use)(x, weights), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of a CPU's compiler")
def test_a_row_more_is_what_takes_a_convolution_to_the_other_library(quick_eigen):
    x, weights, way = case(*WITH_A_ROW_MORE["narrow, to as many"])
    programs = [jax.jit(way(c)).lower(x, weights).compile().as_text() for c in (convolve, convolve_in_use)]
    assert ["__ynn_fusion" in program for program in programs] == [True, False]


def test_maps_that_change_their_size_and_of_half_precision_have_no_row_more(quick_eigen):
    x, kernel = jnp.ones((2, 60, 60, 24)), jnp.ones((3, 3, 24, 24))
    options = {"rhs_dilation": (1, 1), "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    for dtype, pad, rows in ((jnp.float32, 0, 58), (jnp.float32, 2, 62), (jnp.bfloat16, 1, 60)):
        arguments = x.astype(dtype), kernel.astype(dtype), (1, 1), ((pad, pad), (1, 1))
        program = str(jax.make_jaxpr(lambda *a: convolve_in_use(*a, **options), static_argnums=(2, 3))(*arguments))
        assert f"[2,{rows},60,24]" in program and f"[2,{rows + 1}," not in program


def test_a_networks_maps_are_the_same_with_a_row_more(monkeypatch, quick_eigen):
    monkeypatch.setattr(cpu, "_BROAD", 1)
    model = TwoRSUs(rngs=nnx.Rngs(0))
    images = jnp.asarray(np.random.default_rng(0).standard_normal((1, 32, 32, 3), np.float32))
    maps = []
    for platform in ("cpu", "tpu"):
        graph = graph_of(model, training=False, platform=platform)
        maps_of = lambda x, g=graph: nnx.merge(g, nnx.state(model))(x).logits  # noqa: E731
        assert ("f32[1,33,32,64]" in str(jax.make_jaxpr(maps_of)(images))) == (platform == "cpu")
        maps.append(np.asarray(jax.jit(maps_of, compiler_options=QUICKLY_COMPILED)(images)))
    np.testing.assert_allclose(*maps, atol=1e-5 * np.abs(maps[1]).max())


def test_maps_alone_have_a_row_more(quick_eigen):
    model = TwoRSUs(rngs=nnx.Rngs(0))
    images = jnp.zeros((1, 96, 96, 3))
    for training in (True, False):
        graph = graph_of(model, training=training, platform="cpu")
        program = str(jax.make_jaxpr(lambda x, g=graph: nnx.merge(g, nnx.state(model), copy=True)(x).logits)(images))
        assert ("f32[1,97,96,64]" in program) == (not training)


def test_from_jax_0_11_on_maps_have_no_row_more(monkeypatch):
    monkeypatch.setattr(cpu, "_EIGEN_IS_QUICKER", False)
    x, weights, way = case(*WITH_A_ROW_MORE["narrow, to more"])
    assert "f32[2,61," not in str(jax.make_jaxpr(way(convolve_in_use))(x, weights))


@pytest.mark.parametrize("name", ["many pixels and channels", "a head"])
def test_maps_of_half_precision_keep_their_convolution(name):
    x, weights, way = case(*AS_PRODUCT[name])
    program = str(jax.make_jaxpr(way(convolve))(x.astype(jnp.bfloat16), weights.astype(jnp.bfloat16)))
    assert "conv_general_dilated" in program and "dot_general" not in program


def test_a_network_takes_products_when_told_and_on_a_cpu():
    model = create_model("u2netp", rngs=nnx.Rngs(0))
    images = jnp.zeros((1, 32, 32, 3))

    def count(graph: nnx.GraphDef) -> int:
        state = nnx.state(model)
        return str(jax.make_jaxpr(lambda x: nnx.merge(graph, state)(x).logits)(images)).count("name=kept convolution")

    assert count(graph_of(model, training=False, platform="cpu")) == 7  # six side heads and their fusion
    assert count(graph_of(model, training=False, platform="tpu")) == 0
    assert count(graph_of(model, training=False)) == (7 if jax.default_backend() == "cpu" else 0)


@pytest.mark.parametrize("padding", ["SAME", "VALID", "CIRCULAR", "REFLECT"])
def test_padding_as_a_word_is_that_of_flax(padding, quick_eigen):
    cases = {
        "a product": ((5, 6), 512, 512, {"strides": 2}),
        "few products": ((15, 16), 160, 128, {}),
        "a head": ((20, 16), 16, 1, {}),
        "XLA's, every second pixel": ((12, 15), 5, 6, {"strides": (2, 3)}),
        "XLA's, dilated": ((12, 15), 5, 6, {"kernel_dilation": (2, 3)}),
        "a row more, in use": ((90, 80), 24, 24, {}),
    }
    if padding not in ("SAME", "VALID"):  # rarer, and made of these before a convolution sees them
        cases = {name: case for name, case in cases.items() if name.startswith("XLA's")}
    for name, (size, channels, features, options) in cases.items():
        layer = nnx.Conv(channels, features, (3, 3), padding=padding, rngs=nnx.Rngs(0), **options)
        x = jnp.asarray(np.random.default_rng(0).standard_normal((2, *size, channels), np.float32))
        graphs = nnx.graphdef(layer), *(graph_of(layer, training=on, platform="cpu") for on in (True, False))
        state = nnx.state(layer)
        ways = [lambda x, state, g=graph: nnx.merge(g, state)(x) for graph in graphs]
        flax, *ours = values_and_gradients(ways, (x, state))
        for found in ours:
            for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(flax), strict=True):
                np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max(), err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("options", [{"input_dilation": 2}, {"preferred_element_type": jnp.float32}], ids=str)
def test_spread_out_maps_and_sums_of_a_type_are_left_to_xla(options, dtype):
    padding = [(0, 0), (0, 0)]
    layer = nnx.Conv(8, 8, (1, 1), padding=padding, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0), **options)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 6, 8), np.float32))
    expected, state = layer(x), nnx.state(layer)
    for training in (True, False):
        graph = graph_of(layer, training=training, platform="cpu")
        assert jnp.array_equal(nnx.merge(graph, state)(x), expected)


def test_what_is_rather_computed_again_than_kept():
    assert is_repeatable((1, 1, 64, 256))
    assert not any(map(is_repeatable, [(1, 1, 64, 64), (1, 1, 256, 64), (3, 3, 64, 256), (1, 3, 64, 256)]))
