"""Arrays of our networks as a PyTorch state dict has them, and back: names of arrays, shapes, memory layout.

===================  ==================  =============================================
ours                 PyTorch             layout
===================  ==================  =============================================
``kernel``           ``weight``          h, w, in, out <-> out, in, h, w; a transposed
                                         convolution's is h, w, out, in <-> in, out, h, w;
                                         a linear layer's in, out <-> out, in
``scale``, ``bias``  ``weight, bias``    as it is
``slope`` (PReLU)    ``weight``          as it is
``mean``, ``var``    ``running_mean``,   as it is; ``num_batches_tracked`` beside them is
                     ``running_var``     written as 0 and not read
any other            the same name       as it is
===================  ==================  =============================================
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from flax import nnx

from afiu_jax.errors import UserError
from afiu_jax.interop.names import names_of

COUNTER = "num_batches_tracked"
_LEAF = {"kernel": "weight", "scale": "weight", "slope": "weight", "mean": "running_mean", "var": "running_var"}
_KERNEL_AXES = {4: (3, 2, 0, 1), 2: (1, 0)}
_SHOWN = 3  # keys that an error names


@dataclass(frozen=True)
class Entry:
    """One array of a network under its published key.

    Attributes:
        key: published key, such as ``stage1.rebnconvin.conv_s1.weight``.
        path: our dotted path, such as ``stage1.embed.conv.kernel``.
        variable: the array's variable in the network.
    """

    key: str
    path: str
    variable: nnx.Variable

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in PyTorch's layout."""
        shape = self.variable.shape
        return tuple(shape[axis] for axis in self._axes)

    def read(self) -> np.ndarray:
        """The array in PyTorch's layout, float32; whole numbers and truth values as they are."""
        return np.asarray(self.variable[...], self._dtype).transpose(self._axes).copy()

    def write(self, value: np.ndarray) -> None:
        """Fills the variable from an array in PyTorch's layout."""
        self.variable[...] = jnp.asarray(self.convert(value))

    def convert(self, value: np.ndarray) -> np.ndarray:
        """The reverse of ``read``."""
        return np.asarray(value, self._dtype).transpose(np.argsort(self._axes))

    @property
    def _axes(self) -> tuple[int, ...]:
        """Ours in PyTorch's order."""
        as_it_is = tuple(range(len(self.variable.shape)))
        is_kernel = self.path.rpartition(".")[2] == "kernel"
        return _KERNEL_AXES.get(len(as_it_is), as_it_is) if is_kernel else as_it_is

    @property
    def _dtype(self) -> np.dtype:
        dtype = self.variable.dtype
        return np.dtype(np.float32 if jnp.issubdtype(dtype, jnp.floating) else dtype)


def entries(model: nnx.Module, name: str) -> Iterator[Entry]:
    """Every parameter and statistic of a network with its published key; the network may be abstract."""
    names = names_of(name)
    for path, variable in nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat))):
        *modules, leaf = map(str, path)
        module = ".".join(modules)
        of_statistics = leaf in ("mean", "var") and hasattr(names, "statistics_name")
        published = (names.statistics_name if of_statistics else names.module_name)(model, module)
        yield Entry(f"{published}.{_LEAF.get(leaf, leaf)}".lstrip("."), f"{module}.{leaf}".lstrip("."), variable)


def published_shapes(model: nnx.Module, name: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the network's published state dict.

    Args:
        model: the network; abstract or not.
        name: its key in ``NETWORKS``.
    """
    shapes = {}
    for entry in entries(model, name):
        if entry.key in shapes:
            raise ValueError(f"{entry.path}: the published key {entry.key} is taken")
        shapes[entry.key] = entry.shape
    return {**shapes, **dict.fromkeys(_counters(shapes, name), ())}


def to_published(model: nnx.Module, name: str) -> dict[str, np.ndarray]:
    """The network's arrays as its published state dict, counters 0; arguments as of ``published_shapes``."""
    arrays = {entry.key: entry.read() for entry in entries(model, name)}
    return {**arrays, **dict.fromkeys(_counters(arrays, name), np.zeros((), np.int64))}


def from_published(model: nnx.Module, name: str, arrays: Mapping[str, np.ndarray], source: str = "the file") -> None:
    """Fills a network in place from its published state dict; arguments and errors as of ``fitting``.

    Either every array fits, or nothing is touched.
    """
    fitted = fitting(model, name, arrays, source)
    for entry in entries(model, name):
        entry.variable[...] = jnp.asarray(fitted[entry.path])


def fitting(
    model: nnx.Module, name: str, arrays: Mapping[str, np.ndarray], source: str = "the file"
) -> dict[str, np.ndarray]:
    """A published state dict as arrays of our layout by dotted path, one for each variable of the network.

    Args:
        model: the network; abstract or not.
        name: its key in ``NETWORKS``.
        arrays: by published key; counters (``num_batches_tracked``) may be there or not.
        source: where they come from, for messages.

    Raises:
        UserError: keys that lack or are unknown, other shapes, numbers that are not finite.
    """
    ours = {entry.key: entry for entry in entries(model, name)}
    counters = set(_counters(ours, name))
    theirs = {key: value for key, value in arrays.items() if key not in counters}
    faults = {
        "lacks": [key for key in ours if key not in theirs],
        "has, unknown to the network,": [key for key in theirs if key not in ours],
        "has other shapes for": [
            f"{key} {tuple(theirs[key].shape)}, not {entry.shape}"
            for key, entry in ours.items()
            if key in theirs and tuple(theirs[key].shape) != entry.shape
        ],
    }
    if any(faults.values()):
        found = "; ".join(f"{what} {_some(keys)}" for what, keys in faults.items() if keys)
        raise UserError(f"{source} does not fit {name}: it {found}")
    if broken := [key for key in ours if not np.isfinite(theirs[key]).all()]:
        raise UserError(f"{source} has numbers that are not finite in {_some(broken)}")
    return {entry.path: entry.convert(theirs[key]) for key, entry in ours.items()}


def is_counter(key: str) -> bool:
    """Whether a key is PyTorch's count of training batches, which nothing here depends on."""
    return key.rpartition(".")[2] == COUNTER


def _counters(keys: Mapping[str, object], name: str) -> list[str]:
    if hasattr(names_of(name), "statistics_name"):
        return []
    return [f"{key.removesuffix('running_mean')}{COUNTER}" for key in keys if key.endswith("running_mean")]


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
