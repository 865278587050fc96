"""The paper in miniature, on generated scenes: SOD, then DBD from its weights and from scratch."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from afiu_jax.console import open_console
from afiu_jax.errors import UserError
from afiu_jax.evaluation import evaluate
from afiu_jax.inference import Predictor
from afiu_jax.report.curves import loss_curves
from afiu_jax.report.figures import comparison
from afiu_jax.report.style import save
from afiu_jax.training.logging import read_metrics
from afiu_jax.training.loop import train_and_evaluate
from afiu_jax.training.schema import load_config
from input_pipeline.sources import Spec, open_source

PICTURES = 6
SOD, TRANSFER, SCRATCH = "SOD", "DBD from SOD", "DBD from scratch"


@dataclass(frozen=True)
class Stage:
    """One of the demo's three trainings."""

    title: str
    config: str
    folder: str
    init_from: str | None = None


STAGES = (
    Stage(SOD, "sod", "sod"),
    Stage(TRANSFER, "dbd", "dbd", init_from="sod"),
    Stage(SCRATCH, "dbd", "dbd-scratch"),
)


def run_demo(folder: Path, steps: int | None = None) -> str | None:
    """Trains the three stages in ``folder``, scores them, and writes ``panel.png`` and ``loss.png`` there.

    A demo that was interrupted goes on where it stopped; a finished one is only scored again.

    Args:
        folder: where everything goes.
        steps: of each stage; the configurations' own if None.

    Returns:
        Name of the signal that stopped it, or None.

    Raises:
        UserError: the folder holds runs of another configuration or length.
    """
    console, began = open_console(), time.monotonic()
    table = Table("", "test MAE", "test max F", title="scenes that none of them has seen")
    columns: dict[str, list[np.ndarray]] = {}
    for stage in STAGES:
        console.rule(stage.title)
        config = load_config(stage.config, "demo")
        if steps is not None:
            config.train.num_steps = config.eval.every_steps = config.checkpoint.every_steps = steps
        workdir = folder / stage.folder
        _require_length(workdir, config.train.num_steps)
        outcome = train_and_evaluate(config, workdir, str(folder / stage.init_from) if stage.init_from else None)
        if outcome.stopped_by:
            return outcome.stopped_by
        scores, pictures = _score(workdir)
        table.add_row(stage.title, f"{scores['mae']:.4f}", f"{scores['max_f']:.4f}")
        task = "salient" if stage.title == SOD else f"in {config.task.positive}"
        columns.setdefault("photo", pictures["photo"])
        columns.setdefault(f"{task} (truth)", pictures["truth"])
        columns[stage.title] = pictures["map"]
    save(comparison(list(columns.items())), folder / "panel.png")
    curves = {stage.title: read_metrics(folder / stage.folder) for stage in STAGES[1:]}
    save(loss_curves(curves, title="DBD with and without the SOD prior (compare Figure 7)"), folder / "loss.png")
    console.rule()
    console.print(table)
    console.print(f"photos and maps: {folder / 'panel.png'}")
    console.print(f"loss curves:     {folder / 'loss.png'}")
    console.print(f"done in {time.monotonic() - began:.0f} s; more in README.md")
    return None


def _require_length(workdir: Path, steps: int) -> None:
    """A stage of another length would be gone on with, and the next stage not begin from its end."""
    path = workdir / "config.json"
    if path.exists() and (before := json.loads(path.read_text(encoding="utf-8"))["train"]["num_steps"]) != steps:
        raise UserError(f"{workdir} is a demo of {before} steps, not {steps}: pass --steps {before} or another --out")


def _score(workdir: Path) -> tuple[dict[str, float], dict[str, list[np.ndarray]]]:
    """Scores of a run on its test scenes, and the first of them as pictures."""
    positive = json.loads((workdir / "config.json").read_text(encoding="utf-8"))["task"]["positive"]
    predictor = Predictor(workdir, positive=positive, batch_size=16)
    spec = Spec(**predictor.config["data"]["test"])
    source = open_source(spec, predictor.positive, seed=predictor.config["seed"])
    pictures: dict[str, list[np.ndarray]] = {"photo": [], "truth": [], "map": []}

    def keep(record, found) -> None:
        if len(pictures["map"]) < PICTURES:
            for name, picture in zip(pictures, (record["image"], record["mask"], found), strict=True):
                pictures[name].append(picture)

    return evaluate(predictor, source, keep).scores, pictures
