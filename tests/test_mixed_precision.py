"""Convolutions in bfloat16 that cast their weights late: the values and gradients of Flax's own casts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from afiu_jax.convolution import cpu
from afiu_jax.convolution.filtered import filter_kernels
from afiu_jax.convolution.mixed_precision import set_late_casts
from afiu_jax.layers import conv
from afiu_jax.training.state import graph_of

SHAPES = {
    "3x3": {"kernel_size": 3},
    "strided": {"kernel_size": 3, "stride": 2},
    "dilated": {"kernel_size": 3, "dilation": 2},
}


class Two(nnx.Module):
    """A convolution in bfloat16, and one in float32."""

    def __init__(self, **options):
        rngs = nnx.Rngs(0)
        self.narrow = conv(8, 4, **options, dtype="bfloat16", rngs=rngs)
        self.wide = conv(4, 2, 1, rngs=rngs)

    def __call__(self, x):
        return self.wide(self.narrow(x).astype(jnp.float32))


def value_and_gradients(graph: nnx.GraphDef, state: nnx.State, x: jax.Array):
    loss = lambda state, x: jnp.square(nnx.merge(graph, state)(x)).mean()  # noqa: E731
    return jax.jit(jax.value_and_grad(loss, (0, 1)))(state, x)


@pytest.mark.parametrize("name", SHAPES)
def test_late_casts_change_neither_values_nor_gradients(name):
    model = Two(**SHAPES[name])
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 9, 8, 8), np.float32))
    state, results = nnx.state(model), []
    for on in (False, True):
        set_late_casts(model, on)
        results.append(value_and_gradients(nnx.graphdef(model), state, x))
    (usual, usual_gradients), (late, late_gradients) = results
    assert usual == late
    for a, b in zip(jax.tree.leaves(usual_gradients), jax.tree.leaves(late_gradients), strict=True):
        assert a.dtype == b.dtype
        wrong = 2**-5 if a.ndim == 1 else 2**-7  # Flax sums a bias's gradient in bfloat16
        np.testing.assert_allclose(a, b, rtol=wrong, atol=2**-8 * float(jnp.abs(a).max()))


def test_the_gradient_of_a_bias_is_summed_in_float32():
    """Over the 8×160×160 pixels of AFIU's head, of errors that a bfloat16 sum would stop adding up."""
    layer = nnx.Conv(8, 4, (3, 3), dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((8, 160, 160, 8), np.float32))
    loss = lambda layer, x: layer(x).astype(jnp.float32).mean()  # noqa: E731
    set_late_casts(layer, True)
    found = nnx.grad(loss)(layer, x)
    np.testing.assert_allclose(found.bias[...], np.full(4, 1 / 4, np.float32), rtol=2**-7)
    set_late_casts(layer, False)
    assert abs(float(nnx.grad(loss)(layer, x).bias[0]) - 1 / 4) > 0.1  # what it is about


def test_training_casts_late_and_use_does_not():
    model = Two(kernel_size=3)
    x, state = jnp.zeros((1, 8, 8, 8)), nnx.state(model)
    waits = lambda graph: str(jax.make_jaxpr(lambda s: value_and_gradients(graph, s, x))(state)).count("barrier")  # noqa: E731
    assert waits(graph_of(model, training=True)) == 1
    assert waits(graph_of(model, training=False)) == 0


@pytest.mark.parametrize("x_type", ["float32", "bfloat16"])
@pytest.mark.parametrize("param_type", ["float32", "bfloat16"])
def test_a_convolution_without_a_type_of_its_own_keeps_flaxs_types(param_type, x_type):
    layer = nnx.Conv(8, 4, (3, 3), param_dtype=param_type, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 9, 8, 8)), x_type)
    expected, state = layer(x), nnx.state(layer)
    found = nnx.merge(graph_of(layer, training=True, platform="cpu"), state)(x)
    assert layer.conv_general_dilated is cpu.convolve
    assert found.dtype == expected.dtype == jnp.promote_types(param_type, x_type)
    np.testing.assert_allclose(*(y.astype(jnp.float32) for y in (found, expected)), atol=2**-6)


@pytest.mark.parametrize("dtype", ["float32", np.float32, jnp.dtype("float32")], ids=repr)
def test_a_type_may_be_given_by_its_name(dtype):
    layer = nnx.Conv(128, 128, (3, 3), dtype=dtype, rngs=nnx.Rngs(0))
    graph_of(layer, training=True, platform="cpu")
    assert layer.conv_general_dilated is cpu.convolve
    graph_of(layer, training=False, platform="cpu")
    assert len(jax.tree.leaves(filter_kernels(layer, nnx.state(layer, nnx.Param)))) == 1


def test_functions_that_a_convolution_was_given_stay():
    def doubled(x, kernel, *where, **options):
        return 2 * jax.lax.conv_general_dilated(x, kernel, *where, **options)

    def rounded(arrays, *, dtype):
        return [None if a is None else jnp.round(a).astype(dtype) for a in arrays]

    for dtype in (jnp.float32, jnp.bfloat16):
        given = nnx.Conv(8, 4, (3, 3), dtype=dtype, conv_general_dilated=doubled, rngs=nnx.Rngs(0))
        other = nnx.Conv(8, 4, (3, 3), dtype=dtype, promote_dtype=rounded, rngs=nnx.Rngs(0))
        usual = given.promote_dtype
        for training in (True, False):
            graph_of(given, training=training)
            graph_of(other, training=training)
            assert (given.conv_general_dilated, given.promote_dtype) == (doubled, usual)
            assert other.promote_dtype is rounded


class Reading(nnx.Conv):
    """A class that treats its kernel and bias in its own way."""

    def __call__(self, x):
        x, kernel, bias = self.promote_dtype((x, self.kernel[...], self.bias[...]), dtype=self.dtype)
        numbers = ("NHWC", "HWIO", "NHWC")
        return self.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers) + bias[None, None, None]


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("dtype", [None, jnp.float32, jnp.bfloat16], ids=str)
def test_a_class_that_calls_them_itself_gets_what_flax_gives(dtype, platform):
    layer = Reading(8, 4, (3, 3), dtype=dtype, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 9, 8, 8), np.float32))
    expected, state = layer(x), nnx.state(layer)
    for training in (True, False):
        found = nnx.merge(graph_of(layer, training=training, platform=platform), state)(x)
        np.testing.assert_allclose(found.astype(jnp.float32), expected.astype(jnp.float32), atol=2**-6)
