"""What is checked before a run begins: its network and sizes, the folder it goes to and the weights it starts from."""

import json
from pathlib import Path

from flax import nnx
from rich.console import Console

from afiu_jax.errors import UserError
from afiu_jax.networks import NETWORKS, abstract_model
from afiu_jax.training.checkpoint import has_checkpoints
from afiu_jax.training.config import Resolved, differences


def require_network(name: str, options: dict) -> nnx.Module:
    """The network without weights, to find at once what it does not accept.

    Raises:
        UserError: wrong options.
    """
    try:
        return abstract_model(name, **options)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"model.options do not make a network: {' '.join(str(error).split())}") from error


def check_sizes(config: Resolved) -> None:
    """Refuses sides of images and crops that the network does not take.

    Raises:
        UserError: such a side.
    """
    name = config["model"]["name"]
    for key in ("image_size", "random_crop"):
        side = config["data"][key]
        try:
            if side or key == "image_size":
                NETWORKS[name].sizes.require((side, side), name)
        except ValueError as error:
            raise UserError(f"data.{key} is {side}: {error}") from error


def check_workdir(workdir: Path, config: Resolved) -> None:
    """Refuses a work directory of a run with another configuration.

    Raises:
        UserError: another configuration, or one that cannot be read.
    """
    path = workdir / "config.json"
    if not path.exists():
        if has_checkpoints(workdir):
            raise UserError(f"{workdir} has checkpoints but no config.json: pass another --workdir")
        return
    try:
        if not isinstance(before := json.loads(path.read_text(encoding="utf-8")), dict):
            raise ValueError("no configuration")
        changed = differences(before, config)
    except ValueError as error:
        raise UserError(f"cannot read {path} ({error}): pass another --workdir") from error
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UserError(
            f"{workdir} holds a run with another configuration ({'; '.join(changed[:3])}{more}): "
            "pass another --workdir, or the configuration of that run to resume it"
        )


def warn_of_start(old: Resolved, new: Resolved, console: Console) -> None:
    """Tells what in the configuration of the initial weights does not go with a run from them."""
    before, now = old["data"]["normalize"], new["data"]["normalize"]
    if before != now:
        console.print(
            f"warning: --init_from was trained with data.normalize={before}, this run uses {now}", style="yellow"
        )
    if old.get("imported", {}).get("untrainable"):
        console.print(
            "warning: the file that --init_from was imported from had its batch normalisations folded, and training "
            "undoes that: import it again with --calibrate PHOTOS",
            style="yellow",
        )
