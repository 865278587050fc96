"""The process of one run: trains it as ``train.py`` does, then scores it. ``python -m afiu_jax.study.worker JOB.json``.

A process of its own for every run, so that one that crashes or runs out of memory takes nothing along, and each device
has one. Its standard input is held open by the study: when that closes, since the study stops or has died, the run
gets SIGTERM, saves and ends.
"""

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from afiu_jax.console import quiet_orbax
from afiu_jax.errors import UserError, leave
from afiu_jax.evaluation import evaluate
from afiu_jax.inference import Predictor
from afiu_jax.maps import map_writer
from afiu_jax.study.cells import is_trained, read_json, save_scores, unscored
from afiu_jax.training.checkpoint import has_checkpoints
from afiu_jax.training.logging import write_json
from afiu_jax.training.loop import train_and_evaluate
from input_pipeline.records import DataError
from input_pipeline.sources import Spec, open_source

JOB = "job.json"
PRIOR = "prior.json"
"""In a run's folder: the configuration of the SOD run that it began with, whatever becomes of that run's folder."""


def write_job(workdir: Path, config: Mapping, init_from: str | None, tests: Mapping[str, Spec]) -> Path:
    """Writes what a worker is to do into the run's work directory."""
    workdir.mkdir(parents=True, exist_ok=True)
    job = {"config": config, "init_from": init_from, "tests": {name: vars(spec) for name, spec in tests.items()}}
    (workdir / JOB).write_text(json.dumps(job, indent=2) + "\n", encoding="utf-8")
    return workdir / JOB


def run(job: Path) -> int:
    """Trains what is not trained and scores what is not scored.

    Returns:
        Exit status: 0, or 128 and the number of the signal that stopped the training.
    """
    workdir, todo = job.parent, json.loads(job.read_text(encoding="utf-8"))
    if not is_trained(workdir):
        if (prior := read_json(Path(todo["init_from"] or "", "config.json"))) and not has_checkpoints(workdir):
            write_json(workdir / PRIOR, prior)
        outcome = train_and_evaluate(ConfigDict(todo["config"]), workdir, todo["init_from"])
        if outcome.stopped_by:
            return 128 + signal.Signals[outcome.stopped_by]
    tests = {name: Spec(**fields) for name, fields in todo["tests"].items()}
    if names := unscored(workdir, tests):
        predictor = Predictor(workdir)
        for name in names:
            source = open_source(tests[name], predictor.positive)
            write, faint = map_writer(workdir / "maps" / name, predictor.about), []
            scored = evaluate(predictor, source, write, name=workdir.name, faint=faint)
            for image in faint:
                print(f"warning: {name}: {image}: the mask nowhere reaches 128, and is scored as one without a target")
            save_scores(workdir, name, tests[name], scored, step=int(predictor.path.name))
    return 0


def main(job: Path) -> int:
    """``run``, with whatever goes wrong in one last line that begins with ``error:``."""
    threading.Thread(target=_stop_with_input, daemon=True).start()
    quiet_orbax()
    try:
        return run(job)
    except (UserError, DataError) as error:
        reason = str(error)
    except Exception as error:
        traceback.print_exc()
        first = (str(error).splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {first}"
    print(f"error: {reason}", file=sys.stderr)
    return 2


def _stop_with_input() -> None:
    while os.read(sys.stdin.fileno(), 1):  # not sys.stdin.read, whose lock would be held when the interpreter ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    leave(main(Path(sys.argv[1])))
