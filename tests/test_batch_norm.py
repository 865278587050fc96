"""Batch normalisation against independent NumPy arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from afiu_jax.batch_norm import batch_norm, fold
from afiu_jax.training.state import graph_of

RNGS = nnx.Rngs(0)
image = lambda *shape: np.random.default_rng(0).standard_normal(shape).astype(np.float32)  # noqa: E731


@pytest.mark.parametrize(("groups", "loops"), [(1, False), (2, False), (1, True), (2, True)])
def test_the_gradient_of_batch_norm_is_that_of_its_values(groups, loops):
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
        layer.groups, layer.loops = groups, loops
        graph, state = nnx.split(layer)

        def ours(x, scale, bias):
            variables = {**state, "scale": state["scale"].replace(scale), "bias": state["bias"].replace(bias)}
            return (nnx.merge(graph, nnx.State(variables), copy=True)(x) * above).sum()

        found = jax.grad(ours, (0, 1, 2))(*map(jnp.asarray, arguments))
    for index, gradient in enumerate(found):
        expected = np.reshape(list(slopes(index)), gradient.shape)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("loops", [False, True])
def test_batch_norm_uses_pytorchs_constants(loops):
    layer = batch_norm(2, rngs=RNGS)
    layer.loops = loops
    x = image(4, 5, 5, 2) * 3 + 7
    y = layer(jnp.asarray(x))
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), atol=1e-4)
    np.testing.assert_allclose(layer.mean[...], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.var[...], 0.9 + 0.1 * var, rtol=1e-5)


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
        layer = batch_norm(8, rngs=RNGS)
        layer.loops = loops
        graph, state = nnx.split(layer)

        def value(state, x):
            return jnp.square(nnx.merge(graph, state, copy=True)(x)).sum((0, 1, 2))[0]

        program = jax.jit(jax.grad(value, 1)).lower(state, jnp.ones((1, pixels // 32, 32, 8))).compile().as_text()
        return program.count('"__ynn_fusion"')

    assert calls(4096, loops=True) == 0 < calls(4096, loops=False)
    assert calls(4128, loops=True) == calls(4128, loops=False) > 0


def test_sums_are_loops_in_training_on_one_cpu_only(monkeypatch):
    def loops(platform="cpu"):
        layer = nnx.Sequential(batch_norm(1, rngs=RNGS))
        graph_of(layer, training=True, platform=platform)
        return layer.layers[0].loops

    assert loops() == (jax.device_count() == 1)
    assert not loops("gpu")
    monkeypatch.setattr(jax, "device_count", lambda: 2)  # an all-reduce must be told that they are sums
    assert not loops()
