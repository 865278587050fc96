"""Layers against independent NumPy and SciPy arithmetic."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from one_program import values_and_gradients
from scipy import ndimage, signal

from afiu_jax.layers import conv, interpolation_matrix, resize, upsample2

RNGS = nnx.Rngs(0)
image = lambda *shape: np.random.default_rng(0).standard_normal(shape).astype(np.float32)  # noqa: E731


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (3, 1, 4), (7, 2, 1), (1, 2, 1)])
def test_conv_pads_both_sides_alike(kernel, stride, dilation):
    layer = conv(1, 1, kernel, stride=stride, dilation=dilation, rngs=RNGS)
    x = image(1, 12, 10, 1)
    taps = np.zeros(((kernel - 1) * dilation + 1,) * 2, np.float32)
    taps[::dilation, ::dilation] = layer.kernel[..., 0, 0]
    full = signal.correlate2d(x[0, ..., 0], taps, mode="same")[::stride, ::stride] + layer.bias[0]
    np.testing.assert_allclose(layer(x)[0, ..., 0], full, atol=1e-5)


def test_conv_with_a_flat_kernel():
    layer = conv(1, 1, (1, 5), rngs=RNGS)
    x = image(1, 6, 8, 1)
    assert layer.kernel.shape == (1, 5, 1, 1)
    assert jnp.abs(layer.kernel[...]).max() <= 5**-0.5
    expected = signal.correlate2d(x[0, ..., 0], layer.kernel[..., 0, 0], mode="same") + layer.bias[0]
    np.testing.assert_allclose(layer(x)[0, ..., 0], expected, atol=1e-5)


def test_initial_weights_have_the_declared_spread():
    kernel = conv(64, 32, 3, rngs=RNGS).kernel[...]
    bound = (64 * 9) ** -0.5
    assert jnp.abs(kernel).max() <= bound
    np.testing.assert_allclose(kernel.std(), bound / 3**0.5, rtol=0.02)
    kernel = conv(64, 32, 3, init="he_fan_out", rngs=RNGS).kernel[...]
    np.testing.assert_allclose(kernel.std(), (2 / (32 * 9)) ** 0.5, rtol=0.02)
    layer = conv(64, 32, 3, init=0.01, bias_value=0.0, rngs=RNGS)
    np.testing.assert_allclose(layer.kernel[...].std(), 0.01, rtol=0.02)
    assert not layer.bias[...].any()


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("old", "new"), [(5, 10), (3, 5), (7, 4), (4, 12), (1, 2)])
def test_the_gradient_of_a_resize_is_its_matrix_transposed(old, new, method, align_corners):
    x, above = (jnp.asarray(image(2, n, n, 3)) for n in (old, new))
    matrix = interpolation_matrix(old, new, method, align_corners=align_corners)
    ways = [partial(resize, size=(new, new), method=method, align_corners=align_corners)]
    ((found, gradient),) = values_and_gradients(ways, [x], above)
    np.testing.assert_allclose(found, np.einsum("ih,jw,bhwc->bijc", matrix, matrix, x), atol=1e-5)
    np.testing.assert_allclose(gradient, np.einsum("ih,jw,bijc->bhwc", matrix, matrix, above), atol=1e-5)
    np.testing.assert_allclose(resize(x, (new, new), method, align_corners=align_corners), found, atol=1e-6)


sides = st.integers(1, 9)


@settings(max_examples=12, deadline=None)
@given(sides, sides, sides, sides)
def test_bilinear_resize_is_align_corners_false(h, w, h2, w2):
    x = image(h, w)
    rows, columns = (np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1) for old, new in ((h, h2), (w, w2)))
    expected = ndimage.map_coordinates(x, np.meshgrid(rows, columns, indexing="ij"), order=1)
    np.testing.assert_allclose(resize(jnp.asarray(x)[None, ..., None], (h2, w2))[0, ..., 0], expected, atol=1e-5)


def test_resize_with_aligned_corners():
    enlarge = partial(resize, align_corners=True)
    x = jnp.array([[0.0, 3.0, 9.0], [4.0, 7.0, 13.0]])[None, ..., None]
    np.testing.assert_allclose(enlarge(x, (2, 5))[0, 0, :, 0], [0, 1.5, 3, 6, 9])
    np.testing.assert_allclose(enlarge(x, (5, 3))[0, :, 0, 0], [0, 1, 2, 3, 4])
    np.testing.assert_allclose(enlarge(x, (4, 7))[0, 3, :, 0], [4, 5, 6, 7, 9, 11, 13], rtol=1e-6)
    np.testing.assert_array_equal(enlarge(x, (1, 1))[0, 0, 0, 0], 0)
    np.testing.assert_array_equal(enlarge(x[:, :1, :1], (2, 2)), jnp.zeros((1, 2, 2, 1)))


def test_antialiased_resize_is_jaxs():
    x = jnp.asarray(image(1, 9, 12, 2))
    ours = resize(x, (4, 5), antialias=True)
    theirs = jax.image.resize(x, (1, 4, 5, 2), "bilinear", antialias=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert jnp.abs(ours - resize(x, (4, 5))).max() > 0.1


def test_nearest_resize_and_upsample2_repeat_pixels():
    x = jnp.asarray(image(2, 3, 4, 2))
    expected = np.repeat(np.repeat(x, 2, axis=1), 2, axis=2)
    np.testing.assert_array_equal(upsample2(x), expected)
    np.testing.assert_array_equal(resize(x, (6, 8), "nearest"), expected)
    np.testing.assert_array_equal(resize(x, (9, 4), "nearest"), np.repeat(x, 3, axis=1))


def test_compute_type_changes_outputs_but_not_weights():
    build = partial(conv, 2, 2, 3, rngs=RNGS)
    x = jnp.asarray(image(1, 4, 4, 2))
    half, full = build(dtype="bfloat16"), build()
    assert half(x).dtype == jnp.bfloat16
    assert full(x).dtype == jnp.float32
    assert half.kernel[...].dtype == jnp.float32
