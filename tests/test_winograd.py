"""3×3 convolutions by Winograd's filtering against the sum that defines them, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_program import values_and_gradients

from afiu_jax.convolution.winograd import convolve_3x3

# Height, width, padding of either axis: rows above and below, columns left and right.
SIZES = {
    "even": (8, 6, ((1, 1), (1, 1))),
    "odd": (7, 5, ((1, 1), (1, 1))),
    "smaller than a tile": (1, 2, ((1, 1), (1, 1))),
    "unpadded": (6, 3, ((0, 0), (0, 0))),
    "unequally padded": (5, 6, ((0, 2), (3, 1))),
}


ALL_ROUND = ((1, 1), (1, 1))

convolve = jax.jit(convolve_3x3, static_argnums=2)


def arrays(height, width, channels=5, features=4):
    random = np.random.default_rng(0)
    x = random.standard_normal((2, height, width, channels), np.float32)
    return x, random.standard_normal((3, 3, channels, features), np.float32) / (9 * channels) ** 0.5


def by_definition(x, kernel, padding):
    padded = np.pad(x.astype(np.float64), ((0, 0), *padding, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    return np.einsum("bhwcij,ijcf->bhwf", windows, kernel.astype(np.float64))


def by_xla(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), ALL_ROUND, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def relative(found, expected) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", SIZES)
def test_it_is_the_convolution(name):
    height, width, padding = SIZES[name]
    x, kernel = arrays(height, width)
    expected = by_definition(x, kernel, padding)
    found = convolve(x, kernel, padding)
    assert found.shape == expected.shape and found.dtype == jnp.float32
    assert relative(found, expected) < 1e-6


@pytest.mark.parametrize("name", SIZES)
def test_its_gradients_are_those_of_the_convolution(name):
    # The convolution is linear in either argument: its gradient g satisfies <g, d> = <above, convolve(d)> for every d.
    height, width, padding = SIZES[name]
    x, kernel = arrays(height, width)
    random = np.random.default_rng(1)
    above = random.standard_normal(by_definition(x, kernel, padding).shape, np.float32)
    ways = [lambda x, kernel: convolve_3x3(x, kernel, padding)]
    ((_, gradient_x, gradient_kernel),) = values_and_gradients(ways, (x, kernel), above)
    for _ in range(5):
        step_x, step_kernel = (random.standard_normal(array.shape, np.float32) for array in (x, kernel))
        for gradient, step, moved in (
            (gradient_x, step_x, by_definition(step_x, kernel, padding)),
            (gradient_kernel, step_kernel, by_definition(x, step_kernel, padding)),
        ):
            change = (above * moved).sum()
            scale = np.sqrt((above**2).sum() * (moved**2).sum())
            assert abs((np.asarray(gradient, np.float64) * step).sum() - change) < 1e-6 * scale


def test_it_is_as_exact_as_the_usual_way():
    x, kernel = arrays(24, 24, 256, 64)
    expected = by_definition(x, kernel, ALL_ROUND)
    assert relative(convolve(x, kernel, ALL_ROUND), expected) < 3 * relative(by_xla(x, kernel), expected)


def test_it_takes_half_of_the_operations_with_its_transforms():
    x, kernel = arrays(32, 32, 64, 64)
    usual = jax.jit(by_xla).lower(x, kernel).cost_analysis()["flops"]
    assert usual == pytest.approx(2 * 9 * 64 * 64 * 2 * 32 * 32, rel=0.1)
    assert convolve.lower(x, kernel, ALL_ROUND).cost_analysis()["flops"] < 0.6 * usual


def test_it_works_in_a_loop_over_images():
    x, kernel = map(jnp.asarray, arrays(6, 6))
    one_by_one = jax.jit(lambda x: jax.lax.map(lambda image: convolve_3x3(image, kernel, ALL_ROUND), x[:, None]))
    expected = by_definition(np.asarray(x), np.asarray(kernel), ALL_ROUND)
    assert relative(one_by_one(x)[:, 0], expected) < 1e-6
