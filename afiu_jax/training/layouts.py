"""The state as a step's program wants it in memory, so that it need not transpose weights in every step.

Weights are ``[h, w, in, out]``, row by row, and cuDNN's convolutions take them in other orders. A program that may
choose keeps weights and moments in that order from one step to the next; their shapes stay what they are.
"""

from collections.abc import Callable

import jax
from jax.experimental.layout import Format, Layout
from jax.sharding import Sharding


def own_layouts(place: Sharding | None) -> dict:
    """For ``jax.jit`` of ``(state, images, masks) -> (next state, report)``: the compiler chooses the state's layouts.

    ``place``: where the state lies, which has to be said if that is on several devices. JAX tells the compiler only
    then that old and new state share their memory, without which it may choose another layout for the new one, and
    the next step refuse it.
    """
    state = Format(Layout.AUTO, place)
    return {"in_shardings": (state, None, None), "out_shardings": (state, None)}


def in_own_layouts(step: Callable) -> Callable:
    """A step that was jitted with ``own_layouts``, to be called like any other.

    Its first call compiles it for the shapes that it is given and brings the state into the layouts that it chose; the
    states that it returns have them already.
    """
    compiled = None

    def call(state, *batch):
        nonlocal compiled
        if compiled is None:
            shapes = jax.tree.map(_without_layout, (state, *batch))
            compiled = step.lower(*shapes).compile()
            state = jax.tree.map(_put, state, compiled.input_formats[0][0])
        return compiled(state, *batch)

    return call


def _put(array: jax.Array, wanted: Format) -> jax.Array:
    """Gives the array away, as steps do with later states: else the caller's reference keeps it beside its copy."""
    return array if array.format == wanted else jax.device_put(array, wanted, donate=True)


def _without_layout(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
