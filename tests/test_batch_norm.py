"""Batch normalisation against independent NumPy arithmetic."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from afiu_jax.batch_norm import batch_norm, fold
from afiu_jax.normalisation import Way, normalise, statistics
from afiu_jax.training.state import graph_of

RNGS = nnx.Rngs(0)
image = lambda *shape: np.random.default_rng(0).standard_normal(shape).astype(np.float32)  # noqa: E731


ways = pytest.mark.parametrize("way", get_args(Way))


@ways
@pytest.mark.parametrize("groups", [1, 2])
def test_the_gradient_of_batch_norm_is_that_of_its_values(groups, way):
    """Against differences of values computed with NumPy alone, in float64."""
    random = np.random.default_rng(0)
    x, above = random.normal(3, 2, (2, 4, 3, 3, 5))
    arguments = (x, *random.normal(1, 0.3, (2, 5)))

    def value(x, scale, bias):
        parts = x.reshape(groups, -1, 5)
        parts = (parts - parts.mean(1, keepdims=True)) / np.sqrt(parts.var(1, keepdims=True) + 1e-5)
        return ((parts.reshape(x.shape) * scale + bias) * above).sum()

    def slopes(index, step=1e-6):
        for place in np.ndindex(arguments[index].shape):
            moved = [np.array(a) for a in arguments]
            moved[index][place] += step
            higher = value(*moved)
            moved[index][place] -= 2 * step
            yield (higher - value(*moved)) / (2 * step)

    with jax.enable_x64(True):
        layer = batch_norm(5, dtype="float64", rngs=RNGS)
        layer.groups, layer.way = groups, way
        graph, state = nnx.split(layer)

        def ours(x, scale, bias):
            variables = {**state, "scale": state["scale"].replace(scale), "bias": state["bias"].replace(bias)}
            return (nnx.merge(graph, nnx.State(variables), copy=True)(x) * above).sum()

        found = jax.grad(ours, (0, 1, 2))(*map(jnp.asarray, arguments))
    for index, gradient in enumerate(found):
        expected = np.reshape(list(slopes(index)), gradient.shape)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)


@ways
def test_batch_norm_uses_pytorchs_constants(way):
    layer = batch_norm(2, rngs=RNGS)
    layer.way = way
    x = image(4, 5, 5, 2) * 3 + 7
    y = layer(jnp.asarray(x))
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), atol=1e-4)
    np.testing.assert_allclose(layer.mean[...], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.var[...], 0.9 + 0.1 * var, rtol=1e-5)


@ways
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_mean_far_from_zero_costs_no_digits(way, dtype):
    """As it would in E[x²] − E[x]², whose terms are a million here, and the variance one."""
    x = jnp.asarray(image(4, 32, 32, 8) + 1000, dtype)
    exact = np.asarray(x, np.float64)
    mean, var = statistics(x, way)
    assert mean.dtype == var.dtype == jnp.float32
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=5e-6)
    np.testing.assert_allclose(var, exact.var((0, 1, 2)), rtol=3e-4)


@pytest.mark.parametrize("size", [10, 1000])
def test_one_pass_loses_no_more_digits_than_there_are_values(size):
    """If the pixel that it looks at is unlike all others, as the middle one of the first image is here."""
    x = image(4, 40, 40, 8)
    x[0, 20, 20] = size
    exact, values = x.astype(np.float64).var((0, 1, 2)), x.size / x.shape[-1]
    two, one = (np.asarray(statistics(jnp.asarray(x), way)[1]) for way in ("two passes", "one pass"))
    np.testing.assert_allclose(two, exact, rtol=1e-5)
    distances = np.minimum(size**2 / exact, values)
    assert (np.abs(one / exact - 1) <= 3e-6 * (1 + distances)).all()
    assert (one != two).any()


@ways
def test_values_that_are_all_alike_have_no_variance(way):
    mean, var = statistics(jnp.full((7, 5, 3, 3), 1 / 3), way)
    np.testing.assert_allclose(mean, 1 / 3, rtol=1e-6)
    assert (var >= 0).all() and (var < 1e-12).all()


@ways
def test_the_gradient_of_the_gradient_is_that_of_plain_arithmetic(way):
    """Of what is normalised, mean and variance depend on the map, too."""
    x, above = jnp.asarray(image(2, 4, 3, 3, 5) * 2 + 3)

    def plain(x):
        return (x - x.mean((0, 1, 2))) * jax.lax.rsqrt(x.var((0, 1, 2)) + 1e-5)

    def ours(x):
        return normalise(x, jnp.ones(5), jnp.zeros(5), 1e-5, jnp.dtype("float32"), way)[0]

    def slope_of_slope(normalised):
        slope = jax.grad(lambda x: (jnp.square(normalised(x)) * above).sum())
        return jax.grad(lambda x: jnp.square(slope(x)).sum())(x)

    expected = slope_of_slope(plain)
    np.testing.assert_allclose(slope_of_slope(ours), expected, atol=1e-5 * float(jnp.abs(expected).max()))


def test_folded_statistics_normalise_as_the_running_ones_do():
    layer = nnx.Sequential(batch_norm(3, rngs=RNGS))
    random = np.random.default_rng(0)
    names = ("scale", "bias", "mean", "var")
    for name in names:
        getattr(layer.layers[0], name)[...] = random.uniform(0.1, 3, 3).astype(np.float32)
    layer.eval()
    x = jnp.asarray(image(2, 4, 4, 3))
    expected = layer(x)
    values = fold(layer, {f"layers.0.{name}": np.asarray(getattr(layer.layers[0], name)[...]) for name in names})
    assert np.abs(layer(x) - expected).max() > 0.1  # the network expects other values now
    for name in names:
        getattr(layer.layers[0], name)[...] = values[f"layers.0.{name}"]
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_normalisations_that_share_a_scale_are_not_folded():
    layers = nnx.Sequential(*(batch_norm(3, rngs=RNGS) for _ in range(3)))
    layers.layers[1].scale = layers.layers[0].scale
    arrays = nnx.to_flat_state(nnx.state(layers))
    values = {".".join(map(str, path)): np.full(3, 2, np.float32) for path, _ in arrays}
    changed = {name for name, value in fold(layers, values).items() if (value != 2).any()}
    assert changed == {"layers.2.scale", "layers.2.bias"}
    assert [layer.folded for layer in layers.layers] == [False, False, True]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of a CPU's compiler")
def test_sums_of_few_pixels_are_no_calls_of_the_library():
    def calls(pixels, way):
        layer = batch_norm(8, rngs=RNGS)
        layer.way = way
        graph, state = nnx.split(layer)

        def value(state, x):
            return jnp.square(nnx.merge(graph, state, copy=True)(x)).sum((0, 1, 2))[0]

        program = jax.jit(jax.grad(value, 1)).lower(state, jnp.ones((1, pixels // 32, 32, 8))).compile().as_text()
        return program.count('"__ynn_fusion"')

    assert calls(4096, "loops") == 0 < calls(4096, "two passes")
    assert calls(4128, "loops") == calls(4128, "two passes") > 0


def test_a_platform_has_its_way_of_computing_statistics(monkeypatch):
    def way(platform):
        layer = nnx.Sequential(batch_norm(1, rngs=RNGS))
        graph_of(layer, training=True, platform=platform)
        return layer.layers[0].way

    for devices, on_cpu in ((1, "loops"), (2, "two passes")):  # an all-reduce must be told that they are sums
        monkeypatch.setattr(jax, "device_count", lambda count=devices: count)
        assert (way("cpu"), way("gpu"), way("tpu")) == (on_cpu, "one pass", "two passes")
