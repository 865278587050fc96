"""Products with sparse matrices against those with the same matrices in full."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afiu_jax.sparse import Sparse, combine


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32))
def test_it_is_the_product_and_its_gradient_the_one_with_the_transpose(rows, columns, seed):
    random = np.random.default_rng(seed)
    matrix = random.standard_normal((rows, columns), np.float32) * random.integers(0, 2, (rows, columns))
    matrix[0, 0] = 1  # not all zeros
    x, above = (jnp.asarray(random.standard_normal((2, n, 3), np.float32)) for n in (columns, rows))
    found, derive = jax.vjp(lambda x: combine(x, Sparse.of(matrix), 1), x)
    np.testing.assert_allclose(found, np.einsum("rc,bcf->brf", matrix, x), atol=1e-5)
    np.testing.assert_allclose(derive(above)[0], np.einsum("rc,brf->bcf", matrix, above), atol=1e-5)


def test_a_transpose_is_one_object():
    matrix = Sparse.of(np.eye(3))
    assert matrix.transposed is matrix.transposed  # JAX compiles a product once for each matrix


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_any_axis(axis):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 4, 4), np.float32))
    matrix = np.eye(4, dtype=np.float32)[::-1]
    np.testing.assert_array_equal(combine(x, Sparse.of(matrix), axis), np.flip(x, axis))
