"""Convolutions in groups of channels against XLA's own: the same values and gradients, by what computes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from one_program import values_and_gradients

from afiu_jax.convolution import winograd
from afiu_jax.convolution.cpu import convolve, convolve_in_use
from afiu_jax.convolution.filtered import filter_kernels
from afiu_jax.training.state import graph_of

CHANNELS_LAST = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}

# Channels in and out, groups, kernel, stride, dilation, padding.
DEPTHWISE = {
    "one by one": (6, 6, 6, (3, 3), 1, 1, "SAME"),
    "one by one, to two each": (6, 12, 6, (3, 3), 1, 1, "SAME"),
    "one by one, every second pixel": (6, 6, 6, (3, 3), 2, 1, [(1, 1), (1, 1)]),
    "one by one, dilated": (6, 6, 6, (3, 3), 1, 2, [(2, 1), (0, 2)]),
    "one by one, 49 taps": (4, 4, 4, (7, 7), 1, 1, "VALID"),
    "one by one, 1x1": (6, 6, 6, (1, 1), 1, 1, "SAME"),
}
BY_GROUP = {
    "three groups": (6, 9, 3, (3, 3), 1, 1, "SAME"),
    "two groups, every second pixel": (6, 4, 2, (3, 3), 2, 1, [(1, 1), (1, 1)]),
    "two groups, dilated": (6, 4, 2, (1, 4), 1, 2, [(0, 0), (3, 3)]),
    "two groups, 1x1": (6, 4, 2, (1, 1), 1, 1, "SAME"),
}
LEFT_TO_XLA = {"one by one, 63 taps": (4, 4, 4, (7, 9), 1, 1, "SAME")}
ALL = DEPTHWISE | BY_GROUP | LEFT_TO_XLA


def case(channels, features, groups, taps, stride, dilation, padding):
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((2, 11, 12, channels), np.float32))
    kernel = jnp.asarray(random.standard_normal((*taps, channels // groups, features), np.float32))
    options = {"rhs_dilation": (dilation, dilation), "feature_group_count": groups, **CHANNELS_LAST}
    return x, kernel, lambda compute: lambda x, k: compute(x, k, (stride, stride), padding, **options)


@pytest.mark.parametrize("name", ALL)
def test_values_and_gradients_are_those_of_xla(name):
    x, kernel, way = case(*ALL[name])
    xlas, *others = values_and_gradients(
        [way(c) for c in (jax.lax.conv_general_dilated, convolve, convolve_in_use)], (x, kernel)
    )
    for ours in others:
        for found, expected in zip(ours, xlas, strict=True):
            np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("compute", [convolve, convolve_in_use], ids=["training", "use"])
@pytest.mark.parametrize("name", ALL)
def test_channels_one_by_one_are_sums_and_others_go_group_by_group(name, compute):
    x, kernel, way = case(*ALL[name])
    program = str(jax.make_jaxpr(way(compute))(x, kernel))
    assert ("conv_general_dilated" in program) == (name not in DEPTHWISE)
    assert ("scan[" in program) == (name in BY_GROUP)
    assert (f"feature_group_count={ALL[name][2]}" in program) == (name in LEFT_TO_XLA)
    assert ("custom_vjp_call" in program) == (name in BY_GROUP and compute is convolve)
    assert "name=kept convolution" in program  # remat sees none in a sum or a loop


def test_half_precision_is_not_summed_tap_by_tap():
    x, kernel, way = case(*DEPTHWISE["one by one"])
    halves = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    assert "conv_general_dilated" in str(jax.make_jaxpr(way(convolve_in_use))(*halves))
    assert jnp.array_equal(way(convolve_in_use)(*halves), way(jax.lax.conv_general_dilated)(*halves))


@pytest.mark.parametrize("groups", [2, 8])
def test_a_network_takes_them_on_a_cpu(groups):
    layer = nnx.Conv(8, 16, (3, 3), feature_group_count=groups, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 9, 8, 8), np.float32))
    expected, state = layer(x), nnx.state(layer)
    for training in (True, False):
        graph = graph_of(layer, training=training, platform="cpu")
        assert layer.conv_general_dilated is (convolve if training else convolve_in_use)
        np.testing.assert_allclose(nnx.merge(graph, state)(x), expected, atol=2e-5)


def test_other_platforms_have_groups_of_their_own():
    layer = nnx.Conv(8, 16, (3, 3), feature_group_count=2, rngs=nnx.Rngs(0))
    for platform in ("gpu", "tpu"):
        graph_of(layer, training=True, platform=platform)
        assert layer.conv_general_dilated is jax.lax.conv_general_dilated


def test_kernels_of_groups_are_not_filtered(monkeypatch):
    monkeypatch.setattr(winograd, "_WIDE", 1)
    for groups in (1, 2):
        layer = nnx.Conv(8, 8, (3, 3), feature_group_count=groups, dtype=jnp.float32, rngs=nnx.Rngs(0))
        graph_of(layer, training=False, platform="cpu")
        assert len(jax.tree.leaves(filter_kernels(layer, nnx.state(layer, nnx.Param)))) == (groups == 1)
