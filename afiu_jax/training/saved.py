"""A network read from a file, and its transfer into another: the paper's step from SOD to DBD."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from afiu_jax.batch_norm import fold
from afiu_jax.errors import UserError


@dataclass(frozen=True)
class SavedModel:
    """A network read from a checkpoint.

    Attributes:
        path: the step's folder.
        step: its step.
        config: the resolved configuration of its run.
        scores: its validation scores, if it was validated.
        params: trainable weights by dotted path.
        batch_stats: running statistics by dotted path.
    """

    path: Path
    step: int
    config: dict
    scores: dict[str, float] | None
    params: dict[str, np.ndarray]
    batch_stats: dict[str, np.ndarray]


@dataclass(frozen=True)
class Transfer:
    """What became of the parameters of a network in a transfer, by dotted path."""

    loaded: list[str]
    absent: list[str]  # the network's, but not in the checkpoint
    reshaped: list[str]  # in both, with different shapes; not loaded
    unused: list[str]  # the checkpoint's, but not in the network

    def describe(self) -> str:
        """The counts in one line, and the names of whatever was not loaded."""
        counts = f"loaded {len(self.loaded)}"
        for what, names in (("absent", self.absent), ("reshaped", self.reshaped), ("unused", self.unused)):
            shown = ": " + ", ".join(names[:4]) + (", …" if len(names) > 4 else "") if names else ""
            counts += f", {what} {len(names)}{shown}"
        return counts


def match(saved: SavedModel, model: nnx.Module, name: str) -> Transfer:
    """What a transfer into a network would do, from names and shapes alone; the network may be abstract.

    Args:
        saved: the checkpoint.
        model: the network.
        name: the network's name, which the checkpoint's must be.

    Raises:
        UserError: the checkpoint holds another network, or one so different that less than half of the network's
            parameters would be loaded.
    """
    theirs = saved.config["model"]["name"]
    if theirs != name:
        raise UserError(
            f"{saved.path} holds the network {theirs}, not {name}: "
            f"pass --config.model.name={theirs}, or name a run of {name}"
        )
    variables, values = _variables(model), {**saved.params, **saved.batch_stats}
    shared = [key for key in variables if key in values]
    loaded = [key for key in shared if variables[key].shape == values[key].shape]
    size = lambda keys: sum(variables[key].size for key in keys)  # noqa: E731
    if size(loaded) < size(variables) / 2:
        raise UserError(
            f"{saved.path} fits only {size(loaded):,} of {size(variables):,} parameters: its options differ "
            f"(there: {saved.config['model']['options']}); use the same config variant and model.options for both runs"
        )
    return Transfer(
        loaded,
        absent=[key for key in variables if key not in values],
        reshaped=[key for key in shared if variables[key].shape != values[key].shape],
        unused=[key for key in values if key not in variables],
    )


def transfer(saved: SavedModel, model: nnx.Module, name: str) -> Transfer:
    """Puts a checkpoint's weights and statistics into a network, in place, wherever name and shape agree.

    Arguments and errors as of ``match``.
    """
    report = match(saved, model, name)
    variables, values = _variables(model), {**saved.params, **saved.batch_stats}
    for key in report.loaded:
        variables[key][...] = jnp.asarray(values[key])
    return report


def fill(model: nnx.Module, saved: SavedModel) -> None:
    """Puts a checkpoint's whole network into the same network, in place.

    Raises:
        UserError: the checkpoint does not fill it.
    """
    _require_all(transfer(saved, model, saved.config["model"]["name"]), saved)


def filled_state(model: nnx.Module, saved: SavedModel) -> tuple[nnx.State, nnx.State]:
    """Parameters and statistics of an abstract network in use, from a checkpoint, with no initial weights in between.

    The network is set to use them: its statistics are folded, see ``batch_norm.fold``.

    Raises:
        UserError: the checkpoint does not fill it.
    """
    _require_all(match(saved, model, saved.config["model"]["name"]), saved)
    values = jax.device_put(fold(model, {**saved.params, **saved.batch_stats}))
    return tuple(
        nnx.from_flat_state(
            [
                (path, variable.replace(values[".".join(map(str, path))]))
                for path, variable in nnx.to_flat_state(nnx.state(model, kind))
            ]
        )
        for kind in (nnx.Param, nnx.BatchStat)
    )


def _require_all(report: Transfer, saved: SavedModel) -> None:
    if report.absent or report.reshaped:
        raise UserError(f"{saved.path} does not fill its own network: {report.describe()}")


def _variables(model: nnx.Module) -> dict[str, nnx.Variable]:
    flat = nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    return {".".join(map(str, path)): variable for path, variable in flat}
