"""Checkpoints of a run, and what other programs read from them.

``WORKDIR/checkpoints/<step>`` holds separate items, so that a transfer reads the network alone:

==============  ============================================================================================
``model``       parameters and batch statistics, flat by dotted path
``optimizer``   Adam's moments and the step
``data``        position in the data, in global batches
``meta``        resolved configuration, validation scores, versions
==============  ============================================================================================

The last checkpoints are kept, and the best by validation MAE. ``checksums.json`` beside the items is written last.
A checkpoint that one with scores replaces, of the same step, lies in ``WORKDIR/replaced`` until the new one is whole.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from afiu_jax.console import quiet_orbax
from afiu_jax.errors import UserError
from afiu_jax.training.checksums import damage, is_sealed, seal
from afiu_jax.training.saved import SavedModel
from afiu_jax.training.schema import Resolved
from afiu_jax.training.state import TrainState, flatten, unflatten
from afiu_jax.workdir import Hold
from input_pipeline.paths import at_home

_PACKAGES = ("afiu-jax", "jax", "flax", "optax", "orbax-checkpoint")


class DamagedError(UserError):
    """A checkpoint that is not what was written, as far as can be told."""


class Checkpoints:
    """The checkpoints of one work directory; a context manager that waits for what is still being written.

    Args:
        workdir: the run's folder.
        keep_last: how many are kept beside the best.
        hold: this process's hold of the folder; nothing is written into a folder that is another's by now. None where
            another process of the same run holds it.
    """

    def __init__(self, workdir: Path, keep_last: int, hold: Hold | None):
        self._hold = hold
        policy = AnyPreservationPolicy(
            [
                LatestN(keep_last),
                BestN(
                    get_metric_fn=lambda scores: scores["mae"],
                    reverse=True,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        # Without a best_fn, Orbax forgets the scores of earlier checkpoints when a run resumes, and the best goes.
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            best_fn=lambda scores: scores["mae"],
            best_mode="min",
            cleanup_tmp_directories=True,
        )
        self._workdir = workdir.absolute()
        if jax.process_index() == 0:
            _put_back(self._workdir)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("checkpoints")
        # Orbax wants an absolute path.
        self._manager = ocp.CheckpointManager(_folder(self._workdir), options=options)
        self._unsealed: int | None = None  # the step that is being written, which has no checksums yet
        self._replaces = False  # a checkpoint that this process has set aside

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        try:
            self.wait()
        finally:
            self._manager.close()
            if self._replaces:
                _put_back(self._workdir)

    def wait(self) -> None:
        """Returns when everything is on disk."""
        try:
            self._manager.wait_until_finished()
        except Exception:
            self._unsealed = None  # there is nothing to seal, and Orbax says so only once
            raise
        if self._unsealed is not None:
            seal(_folder(self._workdir) / str(self._unsealed))
            self._unsealed = None
            if self._replaces:
                shutil.rmtree(_aside(self._workdir), ignore_errors=True)
                self._replaces = False

    @property
    def latest_step(self) -> int | None:
        """Step of the last whole checkpoint."""
        return self._manager.latest_step()

    def has_scores(self, step: int) -> bool:
        """Whether there is a checkpoint of this step whose network was validated."""
        return has_scores(self._workdir, step)

    def save(self, state: TrainState, config: Resolved, scores: dict[str, float] | None) -> None:
        """Starts writing a checkpoint; a step that is already there without scores is replaced by one that has them.

        Raises:
            UserError: the work directory was deleted or moved meanwhile.
        """
        if self._hold:
            self._hold.require()
        self.wait()  # as Orbax would; the one before gets its checksums
        step = int(state.step)
        if step in self._manager.all_steps():
            if scores is None or self.has_scores(step):
                return
            if jax.process_index() == 0:
                _set_aside(self._workdir, step)
                self._replaces = True
            self._manager.delete(step)  # whose folder is gone: every process forgets it, after waiting for the first
        model = {"params": flatten(state.params), "batch_stats": flatten(state.batch_stats)}
        meta = {"config": config, "scores": scores, "versions": {name: version(name) for name in _PACKAGES}}
        items = ocp.args.Composite(
            model=ocp.args.StandardSave(model),
            optimizer=ocp.args.StandardSave({"step": state.step, **flatten(state.opt_state)}),
            data=ocp.args.JsonSave({"position": step}),
            meta=ocp.args.JsonSave(meta),
        )
        if self._manager.save(step, args=items, metrics=scores) and jax.process_index() == 0:
            self._unsealed = step

    def restore(self, like: TrainState) -> tuple[TrainState, int, list[str]]:
        """The last checkpoint that is whole as a state like ``like``, its position in the data, and lines to show.

        Damaged ones after it are moved into ``WORKDIR/damaged``, since the run will write these steps again; a line
        says so of each. If all are damaged, none is moved.

        Raises:
            DamagedError: damaged checkpoints, and no other; a damaged one in a run of several processes.
            UserError: a whole checkpoint cannot be read; none is moved.
        """
        folder, damaged = Path(self._manager.directory), {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                state, position = self._restore(step, like)
            except DamagedError as error:
                damaged[step] = error
                continue
            if damaged and jax.process_count() > 1:  # moving files takes one process, and no other at work
                break
            lines = [f"{error}: moved to {_move_away(folder / str(bad))}" for bad, error in damaged.items()]
            self._manager.reload()
            return state, position, lines
        raise next(iter(damaged.values()))

    def _restore(self, step: int, like: TrainState) -> tuple[TrainState, int]:
        model = {"params": flatten(like.params), "batch_stats": flatten(like.batch_stats)}
        optimizer = {"step": like.step, **flatten(like.opt_state)}
        items = ocp.args.Composite(
            model=ocp.args.StandardRestore(jax.tree.map(_abstract, model)),
            optimizer=ocp.args.StandardRestore(jax.tree.map(_abstract, optimizer)),
            data=ocp.args.JsonRestore(),
        )
        with _reading(Path(self._manager.directory) / str(step)):
            found = self._manager.restore(step, args=items)
        state = TrainState(
            step=found.optimizer["step"],
            params=unflatten(found.model["params"], like.params),
            batch_stats=unflatten(found.model["batch_stats"], like.batch_stats),
            opt_state=unflatten(found.optimizer, like.opt_state),
        )
        return state, found.data["position"]


def find_checkpoint(path: str | Path) -> Path:
    """The step folder that a path means: itself, or a work directory's best by validation MAE, else its last.

    Raises:
        UserError: no checkpoint there, or a damaged one.
    """
    path = at_home(path).absolute()
    if _is_step(path):
        return path
    folder = path if path.name == "checkpoints" else _folder(path)
    steps = sorted(int(p.name) for p in folder.glob("*") if _is_step(p))
    if not steps:
        there = "it has no checkpoints" if path.is_dir() else "there is no such folder"
        raise UserError(f"no checkpoint in {path} ({there}): name a run's work directory or one checkpoints/<step>")
    scored = [(scores["mae"], step) for step in steps if (scores := _scores(folder / str(step)))]
    return folder / str(min(scored)[1] if scored else steps[-1])


def whole_steps(workdir: Path) -> list[int]:
    """Steps of the checkpoints that were written to their end, in order."""
    return sorted(int(path.name) for path in _folder(workdir).glob("*") if _is_step(path))


def has_checkpoints(workdir: Path) -> bool:
    """Whether a work directory has a whole checkpoint, from which its run would resume."""
    return any(_is_step(path) for folder in (_folder(workdir), _aside(workdir)) for path in folder.glob("*"))


def has_scores(workdir: Path, step: int) -> bool:
    """Whether there is a checkpoint of this step whose network was validated, as far as can be read."""
    try:
        # Not by Orbax, which takes a while: a study asks this of its runs again and again.
        return bool(json.loads((_folder(workdir) / str(step) / "meta" / "metadata").read_text())["scores"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_config(path: str | Path) -> Resolved:
    """The configuration of a checkpoint's run, without its network, which may take seconds.

    Args:
        path: as in ``find_checkpoint``.

    Raises:
        UserError: as ``load_model``.
    """
    quiet_orbax()
    return _config(find_checkpoint(path))


def load_model(path: str | Path) -> SavedModel:
    """Reads the network of a checkpoint; ``path`` as in ``find_checkpoint``.

    Raises:
        UserError: no checkpoint there, or a damaged one.
    """
    quiet_orbax()  # which reports, as warnings, every item that is not asked for
    found = find_checkpoint(path)
    step = int(found.name)
    _config(found)  # refuses what this version cannot read
    handlers = {"model": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
    options = ocp.CheckpointManagerOptions(read_only=True)
    with (
        _reading(found, "model", "meta"),
        ocp.CheckpointManager(found.parent, options=options, item_handlers=handlers) as manager,
    ):
        shapes = jax.tree.map(_abstract, manager.item_metadata(step)["model"])
        items = ocp.args.Composite(model=ocp.args.StandardRestore(shapes), meta=ocp.args.JsonRestore())
        restored = manager.restore(step, args=items)
    model, meta = jax.tree.map(np.asarray, restored["model"]), restored["meta"]
    return SavedModel(found, step, meta["config"], meta["scores"], model["params"], model["batch_stats"])


@contextmanager
def _reading(step_folder: Path, *items: str) -> Iterator[None]:
    """Says in one line why a checkpoint cannot be read, where Orbax's errors have many.

    It is damaged if its checksums say so, or if it has none. Else the files are those that were written, and the fault
    lies with the disk of that moment, or with a program whose network is another.
    """
    remedy = "it is damaged; move it away, and what others there are will be used"
    if found := damage(step_folder, *items):
        raise DamagedError(f"the checkpoint {step_folder} cannot be read ({found}): {remedy}")
    try:
        yield
    except Exception as error:  # no narrower: that is what Orbax raises for a file that was emptied
        text = " ".join(str(error).split())
        why = f"the checkpoint {step_folder} cannot be read ({text if len(text) <= _WHY else f'{text[:_WHY]} …'})"
        if is_sealed(step_folder) and not damage(step_folder):
            raise UserError(
                f"{why}, though its files are whole: try again; if the code of the network has changed since, go back "
                "to that of the run"
            ) from error
        raise DamagedError(f"{why}: {remedy}") from error


def _set_aside(workdir: Path, step: int) -> None:
    _aside(workdir).mkdir(exist_ok=True)
    (_folder(workdir) / str(step)).rename(_aside(workdir) / str(step))


def _put_back(workdir: Path) -> None:
    """After a checkpoint was to be replaced: the old one counts unless the new one is whole."""
    for old in sorted(_aside(workdir).glob("*")):
        if not _is_step(_folder(workdir) / old.name):
            old.rename(_folder(workdir) / old.name)
    shutil.rmtree(_aside(workdir), ignore_errors=True)


def _move_away(step_folder: Path) -> Path:
    """Moves a damaged checkpoint out of the way of the run."""
    folder = step_folder.parents[1] / "damaged"
    folder.mkdir(exist_ok=True)
    place, number = folder / step_folder.name, 1
    while place.exists():
        place, number = folder / f"{step_folder.name}-{number}", number + 1
    return step_folder.rename(place)


_WHY = 120  # letters of an error of Orbax that are shown
_KEYS = {"task", "model", "data"}


def _is_step(path: Path) -> bool:
    """Whether a folder is a checkpoint that was written to its end, and whose deletion has not come to these files."""
    return path.name.isdigit() and (path / "model" / "_METADATA").is_file() and (path / "meta" / "metadata").is_file()


def _folder(workdir: Path) -> Path:
    return workdir / "checkpoints"


def _aside(workdir: Path) -> Path:
    return workdir / "replaced"


def _scores(step_folder: Path) -> dict[str, float] | None:
    """The validation scores of a checkpoint; None if it has none, or is not there (any more)."""
    try:
        return _meta(step_folder)["scores"] if _is_step(step_folder) else None
    except (UserError, OSError):
        if _is_step(step_folder):
            raise
        return None  # a run that is at work has deleted it meanwhile


def _meta(step_folder: Path) -> dict:
    with _reading(step_folder, "meta"), ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
        return checkpointer.restore(step_folder / "meta")


def _config(step_folder: Path) -> Resolved:
    config = _meta(step_folder).get("config", {})
    if not config.keys() >= _KEYS:
        raise UserError(f"{step_folder} was not written by a version of this program that this one can read")
    return config


def _abstract(array) -> jax.ShapeDtypeStruct:
    sharding = getattr(array, "sharding", None)
    if not isinstance(sharding, jax.sharding.Sharding):  # metadata of a checkpoint names devices of its time
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)
