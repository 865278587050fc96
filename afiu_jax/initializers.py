"""Initial weights: distributions that a layer declares, and a quick way to fill a whole network with them.

Initialising a 163-million-parameter network layer by layer compiles hundreds of small random programs, which takes a
minute on a CPU. Here every layer declares the distributions of its parameters; ``plan`` builds the network without
arrays, and ``materialise`` fills it on the host, with nothing to compile.
"""

import itertools
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from afiu_jax.errors import UserError


@dataclass(frozen=True)
class Uniform:
    """Uniform within ``±bound``; an initializer ``(key, shape, dtype) -> array``."""

    bound: float

    def __call__(self, key: jax.Array | None, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        """One array of samples; zeros without a key."""
        if key is None:
            return jnp.zeros(shape, dtype)
        return jax.random.uniform(key, shape, dtype, -self.bound, self.bound)

    def on_host(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """The same distribution from NumPy, float32."""
        samples = random.random(shape, np.float32)
        # In place: AFIU's are 650 MB in all.
        samples *= 2
        samples -= 1
        samples *= np.float32(self.bound)
        return samples


@dataclass(frozen=True)
class Normal:
    """Normal with mean 0 and standard deviation ``std``; an initializer ``(key, shape, dtype) -> array``."""

    std: float

    def __call__(self, key: jax.Array | None, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        """One array of samples; zeros without a key."""
        if key is None:
            return jnp.zeros(shape, dtype)
        return self.std * jax.random.normal(key, shape, dtype)

    def on_host(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """The same distribution from NumPy, float32."""
        return random.standard_normal(shape, np.float32) * np.float32(self.std)


@dataclass(frozen=True)
class Constant:
    """``value`` everywhere; an initializer ``(key, shape, dtype) -> array``."""

    value: float

    def __call__(self, key: jax.Array | None, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
        """One array."""
        return jnp.full(shape, self.value, dtype)

    def on_host(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """The same from NumPy, float32."""
        return np.full(shape, self.value, np.float32)


class Keys:
    """Stands in for ``nnx.Rngs``, whose counter, a variable, makes tracing quadratic in the number of layers."""

    def __init__(self, key: jax.Array):
        self.key, self.count = key, itertools.count()

    def params(self) -> jax.Array:
        """The next key."""
        return jax.random.fold_in(self.key, next(self.count))


class NoKeys:
    """Stands in for ``nnx.Rngs`` where only shapes matter: drawing is half of what tracing a network takes."""

    def params(self) -> None:
        """No key: an initializer gives zeros."""


Streams = nnx.Rngs | Keys | NoKeys
"""Where a network's constructor gets its random keys from."""

AnyVariable = TypeVar("AnyVariable", bound=nnx.Variable)

_declared: ContextVar[list[tuple[nnx.Variable, object]] | None] = ContextVar("declared", default=None)
"""While a network is planned: its variables, and the values with which they declared what they are drawn from."""


def declare(variable: AnyVariable, initializer: Callable) -> AnyVariable:
    """The same variable, drawn by ``materialise`` from this distribution unless another value is written into it.

    Args:
        variable: has a value of the distribution.
        initializer: one of this module, or another that has ``on_host``.
    """
    variable.set_metadata(initializer=initializer)
    if (known := _declared.get()) is not None:
        known.append((variable, variable.get_raw_value()))
    return variable


class Plan(NamedTuple):
    """A network without arrays.

    Attributes:
        graph: its structure.
        state: shapes, dtypes and metadata of its variables.
        order: its attributes as its constructor sets them.
        declared: whether every variable has the value that it was declared with, as in this package's networks.
    """

    graph: nnx.GraphDef
    state: nnx.State
    order: tuple[str, ...]
    declared: bool


def plan(build: Callable[[Streams], nnx.Module]) -> Plan:
    """Builds a network without arrays from a function of random streams, which are drawn from only if need be.

    Raises:
        UserError: an attribute of it is an array and no variable, which would be lost in what is saved.
    """
    order: list[str] = []
    untouched: list[bool] = []

    def construct(streams: Callable[[], Streams]) -> nnx.Module:
        token = _declared.set(known := [])
        try:
            module = build(streams())
        finally:
            _declared.reset(token)
        order[:] = vars(module)
        values = {id(variable): value for variable, value in known}
        parts = (part for _, part in nnx.iter_graph(module) if isinstance(part, nnx.Variable))
        untouched[:] = [values.get(id(part)) is part.get_raw_value() for part in parts]
        return module

    try:
        graph, state = nnx.split(nnx.eval_shape(lambda: construct(NoKeys)))
    except Exception:  # a layer of Flax's own, which wants a key; if it is anything else, it comes up again
        graph, state = nnx.split(nnx.eval_shape(lambda: construct(lambda: nnx.Rngs(0))))
    state = strongly_typed(state)
    if arrays := _arrays(graph, state):
        raise UserError(
            f"the network's {arrays[0]} is an array: make it in __call__, or make it an nnx.BatchStat, if it is to "
            "stay as it is, or an nnx.Param"
        )
    return Plan(graph, state, tuple(order), all(untouched))


def strongly_typed(state: nnx.State) -> nnx.State:
    """The same arrays, or their shapes, of types that a step keeps.

    What code writes without a type, such as ``jnp.full((8,), 0.5)``, takes that of whatever it meets; after one step it
    has its own, and the step would be compiled again.
    """

    def strong(leaf: Any) -> Any:
        if not getattr(leaf, "weak_type", False):
            return leaf
        shape_only = isinstance(leaf, jax.ShapeDtypeStruct)
        return leaf.update(weak_type=False) if shape_only else jax.lax.convert_element_type(leaf, leaf.dtype)

    return jax.tree.map(strong, state)


def _arrays(graph: nnx.GraphDef, state: nnx.State) -> list[str]:
    """The names of arrays that are no variables: NumPy's are part of the state, JAX's of the graph, as tracers."""
    loose = [".".join(map(str, path)) for path, leaf in nnx.to_flat_state(state) if not isinstance(leaf, nnx.Variable)]
    for name, attribute in graph.attributes:
        held = getattr(attribute, "value", None)
        parts = jax.tree.leaves(held) if isinstance(held, (tuple, list, dict)) else [held]
        if any(isinstance(part, jax.Array) for part in parts):
            loose.append(str(name))
    return loose


def materialise(planned: Plan, key: jax.Array) -> nnx.Module:
    """A network whose variables are drawn from the ``initializer`` in their metadata, by NumPy.

    Args:
        planned: the network, all of whose variables declare one.
        key: random key that decides every parameter.

    Returns:
        The network with float32 weights.
    """
    graph, state, order, _ = planned
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    flat = list(nnx.to_flat_state(state))
    values = jax.device_put([v.get_metadata()["initializer"].on_host(random, v.shape) for _, v in flat])
    filled = [(path, variable.replace(value)) for (path, variable), value in zip(flat, values, strict=True)]
    module = nnx.merge(graph, nnx.from_flat_state(filled))
    # Splitting sorts the attributes by name; tables of the network show them in the order of its constructor.
    attributes = vars(module)
    for name in order:
        attributes[name] = attributes.pop(name)
    return module
