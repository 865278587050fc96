"""Pools against the definition, and their gradients against XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from one_program import values_and_gradients

from afiu_jax.pooling import avg_pool, max_pool_3x3, max_pool_ceil


def test_pools_on_odd_sizes():
    x = jnp.arange(15, dtype=jnp.float32).reshape(1, 3, 5, 1)
    np.testing.assert_array_equal(max_pool_ceil(x)[0, ..., 0], [[6, 8, 9], [11, 13, 14]])
    np.testing.assert_array_equal(avg_pool(x)[0, ..., 0], [[3, 5]])


def xla_max_pool(x, side):
    """The same pool with XLA's gradient."""
    edges = [(side - 2, n % 2) for n in x.shape[1:3]]
    return nnx.max_pool(x, window_shape=(side, side), strides=(2, 2), padding=edges)


@pytest.mark.parametrize(("pool", "side"), [(max_pool_ceil, 2), (max_pool_3x3, 3)])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 8), (12, 9)], ids=str)
def test_the_gradient_of_a_maximum_goes_to_the_first_of_equal_values(pool, side, size):
    random = np.random.default_rng(0)
    x = jnp.asarray(random.integers(0, 3, (2, *size, 5)), jnp.float32)  # many equals
    above = jnp.asarray(random.integers(1, 9, pool(x).shape), jnp.float32)
    (found, gradient), (expected, xlas) = values_and_gradients((pool, lambda x: xla_max_pool(x, side)), [x], above)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(pool(x), expected)
    np.testing.assert_array_equal(gradient, xlas)


@pytest.mark.parametrize("pool", [max_pool_ceil, max_pool_3x3])
def test_a_map_with_nan_stays_one(pool):
    x = jnp.zeros((1, 4, 4, 1))
    in_training = jax.jit(lambda x: jax.vjp(pool, x)[0])
    for place in np.ndindex(4, 4):
        broken = x.at[0, *place, 0].set(jnp.nan)
        assert bool(jnp.isnan(pool(broken)).any())
        assert bool(jnp.isnan(in_training(broken)).any())
