"""What is checked before a run begins: its network and sizes, the folder it goes to and the weights it starts from."""

import json
import os
from collections.abc import Collection
from pathlib import Path

import jax
from flax import nnx
from jaxtyping import Array, Float
from rich.console import Console

from afiu_jax.batch_norm import BatchNorm, SingleValueError, identities
from afiu_jax.errors import UserError
from afiu_jax.networks import NETWORKS, Prediction, abstract_model
from afiu_jax.networks.encoders import ENCODERS, encoder_level
from afiu_jax.training.checkpoint import has_checkpoints
from afiu_jax.training.config import batch_shape, differences
from afiu_jax.training.finetuning import Frozen
from afiu_jax.training.schema import Resolved
from afiu_jax.training.state import graph_of
from input_pipeline.paths import at_home

_NEEDS_NUMBERS = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)


def require_network(name: str, options: dict) -> nnx.Module:
    """The network without weights, to find at once what it does not accept, and what training does not know.

    Raises:
        UserError: wrong options; a constructor that looks at JAX's numbers; a normalisation or dropout of Flax's own,
            or variables that are neither weights nor statistics.
    """
    try:
        model = abstract_model(name, **options)
    except _NEEDS_NUMBERS as error:
        raise UserError(
            f"the constructor of {name} looks at numbers of JAX, of which a network that is planned has only the "
            f"shapes: compute with NumPy what it decides by ({str(error).splitlines()[0]})"
        ) from error
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"model.options do not make a network: {' '.join(str(error).split())}") from error
    # Their names take a quarter of a second to find, so only a network that has such a part is walked through.
    # A part that the network has twice is the second time a reference, without a type.
    if any(_is_unknown(node.type) for node in nnx.graphdef(model).nodes if hasattr(node, "type")):
        _refuse_unknown_parts(name, model)
    return model


def _is_unknown(kind: type) -> bool:
    """Whether training does not know what to do with modules or variables of that type."""
    if issubclass(kind, nnx.Variable):
        return not issubclass(kind, nnx.Param | nnx.BatchStat)
    return issubclass(kind, nnx.Dropout) or (issubclass(kind, nnx.BatchNorm) and not issubclass(kind, BatchNorm))


def _refuse_unknown_parts(name: str, model: nnx.Module) -> None:
    for path, module in nnx.iter_modules(model):
        where = ".".join(map(str, path))
        if isinstance(module, nnx.Dropout) and module.rate > 0:
            raise UserError(f"{name} has an nnx.Dropout in {where}: make it an afiu_jax.dropout.ChannelDropout")
        if isinstance(module, nnx.BatchNorm) and not isinstance(module, BatchNorm):
            raise UserError(f"{name} has an nnx.BatchNorm in {where}: make it with afiu_jax.batch_norm.batch_norm")
    for path, variable in nnx.to_flat_state(nnx.state(model)):
        if _is_unknown(type(variable)):
            raise UserError(
                f"{name} has an {type(variable).__name__} in {'.'.join(map(str, path))}: a step changes nnx.Param and "
                "nnx.BatchStat; dropout is afiu_jax.dropout.ChannelDropout, which keeps nothing"
            )


def check_encoder(model: nnx.Module, config: Resolved) -> None:
    """Refuses to freeze or to slow down an encoder of which a level has no module.

    Raises:
        UserError: such a level.
    """
    name, train = config["model"]["name"], config["train"]
    if not train["freeze"] and train["layerwise_decay"] == 1:
        return
    found = {encoder_level(name, module) for module in vars(model)}
    if missing := [names for level, names in enumerate(ENCODERS[name]) if level not in found]:
        raise UserError(
            f"no module of {name} is called {missing[0]!r}, which is said of its encoder in "
            "afiu_jax/networks/encoders.py: name it as it is called"
        )


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


def check_statistics(model: nnx.Module, frozen: Frozen, config: Resolved) -> None:
    """Refuses batches of which a normalisation would see one image of one pixel.

    Its result would be its bias, so that nothing learns through it, and its running variance would go to zero, so
    that maps in use are beyond all bounds.

    Args:
        model: the network, abstract or not, which is set for training, in place.
        frozen: what keeps its statistics.
        config: of the run.

    Raises:
        UserError: such a batch.
    """
    (size, height, width), train = batch_shape(config), config["train"]
    if size // (train["accumulate"] * train["norm_groups"]) > 1:
        return
    graph = graph_of(model, training=True, frozen=frozen)

    def predict(params: nnx.State, batch_stats: nnx.State, images: Float[Array, "b h w 3"]) -> Prediction:
        return nnx.merge(graph, params, batch_stats, copy=True)(images)

    images = jax.ShapeDtypeStruct((1, height, width, 3), "float32")
    try:
        jax.eval_shape(predict, nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat), images)
    except SingleValueError as error:
        name = config["model"]["name"]
        raise UserError(
            f"train.batch_size is {size}, normalised one image at a time, and at {height} px {name} has maps of one "
            "pixel, which leave nothing to normalise: use at least two images for each of train.accumulate times "
            "train.norm_groups"
        ) from error


def check_schedule(config: Resolved) -> None:
    """Refuses a schedule that would leave the learning rate as it is, where a run begins.

    Raises:
        UserError: such a schedule.
    """
    schedule, milestones = config["train"]["schedule"], config["train"]["milestones"]
    if schedule == "step" and not milestones:
        raise UserError("train.schedule is 'step': give train.milestones, epochs, for it")
    if milestones and schedule != "step":
        raise UserError(
            f"train.schedule is {schedule!r} and train.milestones are {milestones}: give them for "
            "train.schedule=step, or none (--config.train.milestones='()')"
        )


def check_workdir(workdir: Path, config: Resolved) -> None:
    """Refuses a work directory of a run with another configuration.

    A run that has saved nothing may begin again with any: what failed in its first steps (memory, a learning rate) is
    mended so. Files that a run began with may have moved, if nothing is left where they were.

    Raises:
        UserError: another configuration, or one that cannot be read.
    """
    path = workdir / "config.json"
    if not has_checkpoints(workdir):
        return
    if not path.exists():
        raise UserError(f"{workdir} has checkpoints but no config.json: pass another --workdir")
    try:
        if not isinstance(before := json.loads(path.read_text(encoding="utf-8")), dict):
            raise ValueError("no configuration")
        changed = differences(_with_moved_files(before, config), config)
    except ValueError as error:
        raise UserError(f"cannot read {path} ({error}): pass another --workdir") from error
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UserError(
            f"{workdir} holds a run with another configuration ({'; '.join(changed[:3])}{more}): "
            "pass another --workdir, or the configuration of that run to resume it"
        )


def has_moved(before: str | None, now: str | None) -> bool:
    """Whether what a run began with is at another path now: nothing is left at the old one, and the names agree."""
    if not (before and now):
        return False
    old, new = Path(before), Path(now)
    # A step is told by its run. What is no path is a name of the package.
    length = 3 if old.parent.name == "checkpoints" else 1
    same_names = old.is_absolute() and new.is_absolute() and old.parts[-length:] == new.parts[-length:]
    return same_names and not old.exists() and new.exists()


def _with_moved_files(before: Resolved, now: Resolved) -> Resolved:
    """An earlier configuration with today's paths of what a run began with."""
    moved = {**before, "model": {**(before.get("model") or {})}}
    if has_moved(moved.get("init_from"), now.get("init_from")):
        moved["init_from"] = now["init_from"]
    files = [part.get("backbone_weights") for part in (moved["model"], now["model"])]
    if all(files) and has_moved(*(str(Path(file).absolute()) for file in files)):
        moved["model"]["backbone_weights"] = files[1]
    return moved


def is_other_folder(old: str | None, new: str | None) -> bool:
    """Whether data is read from another folder than before although nothing has moved: the old one is still there."""
    if not (old and new):
        return False
    before, now = at_home(old).resolve(), at_home(new).resolve()
    return before != now and os.access(before, os.F_OK)  # no error where one may not look


def other_data(before: Resolved, now: Resolved, made: Collection[str] = ()) -> list[str]:
    """Warnings that a run goes on with data of another folder, which is as it should be only for a copy.

    Args:
        before: the run's configuration.
        now: what is asked for.
        made: folders that may be copies.
    """
    paths = {part: [config["data"][part].get("path") for config in (before, now)] for part in ("train", "val")}
    return [
        f"warning: data.{part}.path: {old} -> {new}, and the old one is still there: what a run goes on with must be "
        "the same data"
        for part, (old, new) in paths.items()
        if new not in made and is_other_folder(old, new)
    ]


def warn_of_start(old: Resolved, new: Resolved, console: Console) -> None:
    """Tells what in the configuration of the initial weights does not go with a run from them."""
    was, becomes = old["task"]["positive"], new["task"]["positive"]
    if {was, becomes} == {"blur", "focus"}:
        console.print(
            f"warning: what --init_from has learned to mark is {was}, of which {becomes} is the opposite: it begins "
            f"with maps that are turned over; pass --config.task.positive={was} to go on as it was",
            style="yellow",
        )
    before, now = old["data"]["normalize"], new["data"]["normalize"]
    if before != now:
        console.print(
            f"warning: --init_from was trained with data.normalize={before}, this run uses {now}", style="yellow"
        )


def warn_of_identities(model: nnx.Module, console: Console) -> None:
    """Tells that a network with its initial weights has normalisations which only training would make normalise."""
    if found := identities(model):
        console.print(
            f"warning: {len(found)} batch normalisations of --init_from were folded in the file it comes from, and "
            "training undoes that: import it again with --calibrate PHOTOS",
            style="yellow",
        )
