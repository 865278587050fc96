"""A study of a tiny network, and what its runs would leave behind."""

import json
from pathlib import Path

import numpy as np
from conftest import TINY_OPTIONS, pretend_checkpoint, tiny_config
from ml_collections import ConfigDict
from PIL import Image

from afiu_jax.scoring import Scorer
from afiu_jax.study.cells import State, save_scores, save_state
from afiu_jax.study.config import base_study, benchmark, network, read_study
from afiu_jax.study.grid import PRETRAINING, Grid, make_grid
from afiu_jax.training.logging import write_json

IMAGES = 4


def tiny_afiu() -> dict:
    recipe = {"model": {"options": TINY_OPTIONS}}
    return network(sod=recipe, dbd=recipe)


def tiny_study(**fields) -> ConfigDict:
    config = base_study()
    config.sod, config.dbd = tiny_config("sod"), tiny_config("dbd", task__positive="blur")
    config.sod.model.options = config.dbd.model.options = {}
    config.tests.scenes = benchmark("scenes", split=f"test[:{IMAGES}]", paper="CUHK")
    config.networks.afiu = tiny_afiu()
    for key, value in fields.items():
        config[key] = value
    return config


def tiny_grid(folder: Path, **fields):
    return make_grid(read_study(tiny_study(**fields)), folder)


def scored_maps(seed: int, noise: float):
    """Scores of noisy maps of a few masks."""
    scorer, rng = Scorer(), np.random.default_rng(seed)
    for i in range(IMAGES):
        mask = np.zeros((24, 24), bool)
        mask[4 : 12 + 2 * i, 5:20] = True
        found = np.clip(mask + rng.normal(0, noise, mask.shape), 0, 1) * 255
        scorer.add(f"scene-test-{i:05d}", found.astype(np.uint8), mask)
    return scorer.finish("run", {"polarity": "1 = blur"})


def finish(grid, job, *, noise: float = 0.3, val_mae=(0.4, 0.3, 0.35)) -> None:
    """Leaves behind what a run leaves that has come to its end."""
    workdir = grid.workdir(job)
    pretend_checkpoint(workdir, 6, {"mae": val_mae[-1], "max_f": 0.5})
    write_json(workdir / "config.json", {**job.config, "init_from": None, "records": 12})
    lines = [{"step": step, "loss": 1 / step} for step in (2, 4, 6)]
    lines += [{"step": 2 * i + 2, "val_mae": mae, "val_max_f": 0.5} for i, mae in enumerate(val_mae)]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    save_state(workdir, State(seconds=60.0))
    for name, test in grid.tests_of(job).items():
        scored = scored_maps(job.seed, noise)
        save_scores(workdir, name, test.spec, scored, step=4)
        (workdir / "maps" / name).mkdir(parents=True)
        for picture in scored.pictures:
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(workdir / "maps" / name / f"{picture['id']}.png")


def half_done_study(folder: Path) -> Grid:
    """Two seeds of scratch and of the prior are done, one of focus-positive has failed, the other was never begun."""
    grid = tiny_grid(folder, seeds=(0, 1), starts=("scratch", "sod", "sod-focus-positive"))
    for job in (*grid.pretrainings, *grid.cells):
        if job.start in (PRETRAINING, "scratch"):
            finish(grid, job, noise=0.4)
        if job.start == "sod":
            finish(grid, job, noise=0.2, val_mae=(0.3, 0.2, 0.1) if job.seed == 0 else (0.5, 0.4, 0.31))
    failed = next(job for job in grid.cells if job.start == "sod-focus-positive" and job.seed == 1)
    save_state(grid.workdir(failed), State(12.0, "the loss of step 3 is nan"))
    return grid
