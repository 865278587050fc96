"""Biases and scales packed into one array, so that an optimiser takes a few operations for them, not a few for each.

Two thirds of a network's arrays have one axis, and hardly any of its numbers.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from afiu_jax.errors import UserError

VECTORS = "vectors"
"""Name of the arrays of one axis, end to end."""


def pack(tree: PyTree[Array]) -> dict[str, Array]:
    """Arrays by dotted path, those of one axis as one.

    Args:
        tree: arrays, those of one axis of one dtype.

    Returns:
        Kernels and scalars as they are and, if the tree has any arrays of one axis, ``VECTORS``: these end to end in
        the tree's order, ``[sum of their lengths]``.

    Raises:
        UserError: several dtypes.
    """
    named = _named(tree)
    vectors = [leaf for leaf in named.values() if leaf.ndim == 1]
    if len(types := sorted({str(leaf.dtype) for leaf in vectors})) > 1:
        raise UserError(f"the network's biases and scales are {' and '.join(types)}: give all its weights one type")
    rest = {name: leaf for name, leaf in named.items() if leaf.ndim != 1}
    return {**rest, VECTORS: jax.lax.concatenate(vectors, 0)} if vectors else rest


def unpack(packed: dict[str, Array], like: PyTree[Array]) -> PyTree[Array]:
    """The reverse of ``pack``.

    Args:
        packed: as ``pack`` gives it.
        like: the tree that was packed, or one of the same structure and shapes; its values are not looked at.
    """
    leaves, offset = [], 0
    for name, leaf in _named(like).items():
        if leaf.ndim != 1:
            leaves.append(packed[name])
            continue
        # An offset that the compiler does not see makes all slices of one length one program: fewer to compile. It is
        # unsigned, as JAX adds three operations to each for one that might count from the end.
        start = jax.lax.optimization_barrier(jnp.uint32(offset))
        leaves.append(jax.lax.dynamic_slice_in_dim(packed[VECTORS], start, leaf.size))
        offset += leaf.size
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def on_packed(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same optimiser on packed arrays, for one whose rules look at no vector's name; kernels keep theirs."""

    def init(params: optax.Params) -> optax.OptState:
        return optimizer.init(pack(params))

    def update(updates, state, params=None):
        found, state = optimizer.update(pack(updates), state, None if params is None else pack(params))
        return unpack(found, updates), state

    return optax.GradientTransformation(init, update)


def _named(tree: PyTree[Array]) -> dict[str, Array]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
