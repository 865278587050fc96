"""Products of an axis of an array with a constant matrix that is mostly 0: enlarging maps, and tiles of maps.

A row of the result is a sum of few rows of the operand, so that all channels of a pixel move together. The same
written with slices and concatenation is computed element by element on a CPU, in two to ten times the time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@dataclass(frozen=True, eq=False)
class Sparse:
    """A matrix by what is not 0 in it. One object stands for it wherever it is used, so that JAX knows it again.

    Attributes:
        shape: rows and columns.
        rows: of each value.
        columns: of each value.
        values: in any order.
    """

    shape: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, matrix: Float[np.ndarray, "rows columns"]) -> "Sparse":
        """What is not 0 in a matrix."""
        rows, columns = np.nonzero(matrix)
        return cls(matrix.shape, rows, columns, matrix[rows, columns])

    @cached_property
    def transposed(self) -> "Sparse":
        """Its transpose, the same object every time."""
        return Sparse(self.shape[::-1], self.columns, self.rows, self.values)

    def terms(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Columns and values of the first of every row, the second of every row, …; 0 where a row has no more."""
        order = np.argsort(self.rows, kind="stable")
        rows = self.rows[order]
        nth = np.arange(len(rows)) - np.searchsorted(rows, rows)  # of those in the same row
        shape = (nth.max() + 1, self.shape[0])
        columns, values = np.zeros(shape, int), np.zeros(shape, self.values.dtype)
        columns[nth, rows], values[nth, rows] = self.columns[order], self.values[order]
        return zip(columns, values, strict=True)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def combine(x: Array, matrix: Sparse, axis: int) -> Array:
    """The product of a matrix with an axis of ``x``. Its gradient is one with the transpose; reverse mode only.

    Args:
        x: whose axis has as many rows as the matrix has columns.
        matrix: with few values in any row and any column.
        axis: of ``x``, from 0.
    """
    others = [n for n in range(x.ndim) if n != axis]
    return sum(
        jnp.expand_dims(values.astype(x.dtype), others) * jnp.take(x, columns, axis=axis, mode="clip")
        for columns, values in matrix.terms()
    )


combine.defvjp(
    lambda x, matrix, axis: (combine(x, matrix, axis), None),
    lambda matrix, axis, _, above: (combine(above, matrix.transposed, axis),),
)
