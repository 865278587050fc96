"""What a run of a study has left in its work directory: how far it is, its scores on every test set, why it failed.

``scores/<test>.json`` holds the scores of the best checkpoint, of the whole test set and of each image, with its step
and the test set that they belong to; ``scores/<test>.npz`` the curves. ``state.json`` holds the time it took and why
the last attempt failed.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from afiu_jax.report.runs import Run
from afiu_jax.scoring import Scored
from afiu_jax.study.generated import identity
from afiu_jax.study.grid import Grid, Job
from afiu_jax.training.checkpoint import has_scores
from afiu_jax.training.config import num_steps
from afiu_jax.training.logging import read_metrics, write_json
from input_pipeline.paths import at_home
from input_pipeline.sources import Spec

Status = Literal["done", "failed", "unfinished", "not run"]

_CURVES = ("precision", "recall")


@dataclass(frozen=True)
class State:
    """What is known of a run's attempts.

    Attributes:
        seconds: all of them together.
        failure: why the last one failed, in one line; None if it did not.
    """

    seconds: float = 0.0
    failure: str | None = None


@dataclass(frozen=True)
class Cell:
    """A run and what it has left.

    Attributes:
        job: the run.
        status: whether it is trained and scored, was never begun, or stopped in between.
        state: of its attempts.
        run: its log and its configuration, called as the job is.
        scores: by name of the test set.
        step: of the checkpoint that was scored.
    """

    job: Job
    status: Status
    state: State
    run: Run
    scores: Mapping[str, Scored]
    step: int | None

    def first_below(self, mae: float) -> int | None:
        """The first validated step with a validation MAE of at most ``mae``; None if there is none."""
        steps = [line["step"] for line in self.run.lines if line.get("val_mae", np.inf) <= mae]
        return min(steps, default=None)


def read_cell(grid: Grid, job: Job) -> Cell:
    """What a run has left, nothing included."""
    workdir = grid.workdir(job)
    tests = list(grid.tests_of(job))
    missing = unscored(workdir, tests)
    state, run = read_state(workdir), Run(job.name, read_metrics(workdir), job.config)
    if is_finished(workdir, tests):
        status: Status = "done"
    elif state.failure:
        status = "failed"
    else:
        status = "unfinished" if run.lines else "not run"
    scores = {name: _read_scores(workdir, name) for name in tests if name not in missing}
    step = next((read_json(_file(workdir, name))["step"] for name in scores), None)
    return Cell(job, status, state, run, scores, step)


def is_finished(workdir: Path, tests: Collection[str]) -> bool:
    """Whether nothing is left to do for a run. Of one with all its scores, checkpoints may have been deleted."""
    return not unscored(workdir, tests) and (bool(tests) or is_trained(workdir))


def is_trained(workdir: Path) -> bool:
    """Whether a run has the checkpoint of its last step, validated; if that cannot be read, the run writes it again."""
    config = read_json(workdir / "config.json")
    return bool(config) and has_scores(workdir, num_steps(config))


def unscored(workdir: Path, tests: Iterable[str]) -> list[str]:
    """Test sets that a run has no scores of."""
    return [name for name in tests if not read_json(_file(workdir, name))]


def scored_on(workdir: Path, test: str) -> dict | None:
    """The ``identity`` of the data that the scores of a test set are of; None if there are none."""
    return read_json(_file(workdir, test)).get("data")


def scored_in(workdir: Path, test: str) -> str | None:
    """The folder of that data; None if it has none, if there are no scores, or those of an earlier version."""
    return read_json(_file(workdir, test)).get("path")


def save_scores(workdir: Path, test: str, spec: Spec, scored: Scored, *, step: int) -> None:
    """Writes the scores of a test set; the JSON file last, so that it never stands without its curves."""
    file = _file(workdir, test)
    file.parent.mkdir(parents=True, exist_ok=True)
    each = {f"image_{key}": np.float32(scored.image_curves[key]) for key in _CURVES}
    np.savez_compressed(file.with_suffix(".npz"), **each, **scored.curves)
    written = {
        "step": step,
        "data": identity(spec),
        "path": spec.path and str(at_home(spec.path).resolve()),
        "images": scored.images,
        "scores": scored.scores,
        "protocol": scored.protocol,
        "pictures": scored.pictures,
    }
    write_json(file, written)


def read_state(workdir: Path) -> State:
    """How the attempts at a run went; a clean slate if there was none."""
    return State(**read_json(workdir / "state.json"))


def save_state(workdir: Path, state: State) -> None:
    """Writes how the attempts at a run went."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "state.json", vars(state))


def read_json(path: Path) -> dict[str, Any]:
    """What a file holds; nothing if it is missing or damaged, so that it is made anew."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def _read_scores(workdir: Path, test: str) -> Scored:
    file = _file(workdir, test)
    written = read_json(file)
    with np.load(file.with_suffix(".npz")) as arrays:
        curves = {key: arrays[key] for key in arrays if not key.startswith("image_")}
        each = {key: np.float64(arrays[f"image_{key}"]) for key in _CURVES}
    return Scored(
        name=workdir.name,
        scores=written["scores"],
        curves=curves,
        pictures=written["pictures"],
        protocol=written["protocol"],
        images=written["images"],
        image_curves=each,
    )


def _file(workdir: Path, test: str) -> Path:
    return workdir / "scores" / f"{test}.json"
