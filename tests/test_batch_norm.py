"""Batch normalisation against independent NumPy arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from afiu_jax.batch_norm import batch_norm, fold
from afiu_jax.normalisation import statistics
from afiu_jax.training.state import graph_of

RNGS = nnx.Rngs(0)
image = lambda *shape: np.random.default_rng(0).standard_normal(shape).astype(np.float32)  # noqa: E731


WAYS = {"two passes": {}, "loops": {"loops": True}, "one pass": {"one_pass": True}}
ways = pytest.mark.parametrize("way", WAYS)


def normalisation(way, features, **options):
    """Batch normalisation whose statistics are computed in one of ``WAYS``."""
    layer = batch_norm(features, rngs=RNGS, **options)
    for name, value in WAYS[way].items():
        setattr(layer, name, value)
    return layer


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
        layer = normalisation(way, 5, dtype="float64")
        layer.groups = groups
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
    layer = normalisation(way, 2)
    x = image(4, 5, 5, 2) * 3 + 7
    y = layer(jnp.asarray(x))
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), atol=1e-4)
    np.testing.assert_allclose(layer.mean[...], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.var[...], 0.9 + 0.1 * var, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("off", [0, 1, 10, 100])  # how far the running mean is from the batch's, in standard deviations
def test_one_pass_loses_digits_with_the_distance_from_the_running_mean_only(off, dtype):
    x = jnp.asarray(image(4, 40, 40, 8) + 1000, dtype)
    exact = np.asarray(x, np.float64)
    near = exact.mean((0, 1, 2)) + off * exact.std((0, 1, 2))
    mean, var = statistics(x, near=jnp.asarray(near, jnp.float32))
    assert mean.dtype == var.dtype == jnp.float32
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=3e-7)
    np.testing.assert_allclose(var, exact.var((0, 1, 2)), rtol=3e-7 * (1 + off**2))


@pytest.mark.parametrize("near", [None, 2.5], ids=["two passes", "one pass"])
def test_values_that_are_all_alike_have_no_variance(near):
    mean, var = statistics(jnp.full((7, 5, 3, 3), 1 / 3), near=near if near is None else jnp.full(3, near))
    np.testing.assert_allclose(mean, 1 / 3, atol=2e-6)
    assert (var >= 0).all() and (var < 2e-6).all()


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
    def calls(pixels, loops):
        layer = normalisation("loops" if loops else "two passes", 8)
        graph, state = nnx.split(layer)

        def value(state, x):
            return jnp.square(nnx.merge(graph, state, copy=True)(x)).sum((0, 1, 2))[0]

        program = jax.jit(jax.grad(value, 1)).lower(state, jnp.ones((1, pixels // 32, 32, 8))).compile().as_text()
        return program.count('"__ynn_fusion"')

    assert calls(4096, loops=True) == 0 < calls(4096, loops=False)
    assert calls(4128, loops=True) == calls(4128, loops=False) > 0


def test_a_platform_has_its_way_of_computing_statistics(monkeypatch):
    def way(platform):
        layer = nnx.Sequential(batch_norm(1, rngs=RNGS))
        graph_of(layer, training=True, platform=platform)
        return [name for name in ("one_pass", "loops") if getattr(layer.layers[0], name)]

    for devices, loops in ((1, ["loops"]), (2, [])):  # an all-reduce must be told that they are sums
        monkeypatch.setattr(jax, "device_count", lambda count=devices: count)
        assert (way("cpu"), way("gpu"), way("tpu")) == (loops, ["one_pass"], [])
