"""The numbers of a study: means and spreads over seeds, differences from scratch, how soon each start is as good."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev

from afiu_jax.errors import UserError
from afiu_jax.report.provenance import versions
from afiu_jax.report.published import cells as published_cells
from afiu_jax.report.runs import without_home
from afiu_jax.scoring import Scored
from afiu_jax.study.cells import Cell, read_cell
from afiu_jax.study.differences import Difference, mae_difference, max_f_difference
from afiu_jax.study.grid import Grid
from afiu_jax.study.strategies import BASELINE

PRIORS = ("sod", "published")
"""The start that is the second row of the paper's table: the first of these that a network has."""


@dataclass(frozen=True)
class Reached:
    """How soon a run is as good as the baseline ever was: the paper's Figure 7 in a number.

    Attributes:
        seed: of both.
        mae: the baseline's lowest validation MAE.
        step: the run's first validated step with at most that; None if there is none.
    """

    seed: int
    mae: float
    step: int | None


@dataclass(frozen=True)
class Entry:
    """A network with a start: one cell for each seed.

    Attributes:
        network: key.
        start: key.
        name: of both, in print.
        cells: by seed.
        differences: from the baseline by test set and score (``mae``, ``max_f``), over the seeds that both have.
        reached: by seed, where both runs are done.
    """

    network: str
    start: str
    name: str
    cells: tuple[Cell, ...]
    differences: Mapping[str, Mapping[str, Difference]]
    reached: tuple[Reached, ...]

    def scored(self, test: str) -> list[Scored]:
        """The scores on a test set, of the seeds that have them."""
        return [cell.scores[test] for cell in self.cells if test in cell.scores]

    def values(self, test: str, key: str) -> list[float]:
        """A score on a test set by seed."""
        return [scored.scores[key] for scored in self.scored(test)]

    @property
    def mean_steps(self) -> float | None:
        """Steps to the baseline's best, averaged over seeds; None if a seed does not get there, or none was run."""
        steps = [reached.step for reached in self.reached]
        return fmean(steps) if steps and None not in steps else None


@dataclass(frozen=True)
class Results:
    """Everything that a study has found so far.

    Attributes:
        grid: the study.
        networks: names in print by key.
        entries: in the order of print: by network, then by start.
        pretrainings: the SOD runs.
    """

    grid: Grid
    networks: Mapping[str, str]
    entries: tuple[Entry, ...]
    pretrainings: tuple[Cell, ...]

    @property
    def cells(self) -> list[Cell]:
        """All cells."""
        return [cell for entry in self.entries for cell in entry.cells]

    def entry(self, network: str, start: str) -> Entry | None:
        """The entry of a network and a start, if the study has it."""
        return next((e for e in self.entries if (e.network, e.start) == (network, start)), None)

    def prior(self, network: str) -> Entry | None:
        """What stands for "with SOD prior" in the paper's table."""
        return next((entry for start in PRIORS if (entry := self.entry(network, start))), None)


def collect(grid: Grid) -> Results:
    """Reads what the runs of a study have left, and compares them.

    Raises:
        UserError: a test set has other photos in one run than in another.
    """
    networks = {network: _network_name(grid, network) for network in grid.study["networks"]}
    cells: dict[tuple[str, str], list[Cell]] = {}
    for job in grid.cells:
        cells.setdefault((job.network, job.start), []).append(read_cell(grid, job))
    _require_same_photos(grid, [cell for group in cells.values() for cell in group])
    entries = []
    for network in networks:
        baseline = cells.get((network, BASELINE), [])
        for start, strategy in grid.strategies_used.items():
            if found := cells.get((network, start)):
                differences = {} if start == BASELINE else _differences(found, baseline, list(grid.tests))
                name = f"{networks[network]}, {strategy.label}"
                entries.append(Entry(network, start, name, tuple(found), differences, _reached(found, baseline)))
    return Results(grid, networks, tuple(entries), tuple(read_cell(grid, job) for job in grid.pretrainings))


def mean_and_spread(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation; no deviation of a single value, nothing of none."""
    return (fmean(values) if values else None, stdev(values) if len(values) > 1 else None)


def to_json(results: Results) -> dict:
    """All numbers, as ``results.json`` holds them."""
    tests = list(results.grid.tests)
    return {
        "title": results.grid.study["title"],
        "versions": versions(),
        "tests": {name: {**vars(test.source), "paper": test.paper} for name, test in results.grid.tests.items()},
        "cells": [_cell_json(entry, cell) for entry in results.entries for cell in entry.cells],
        "sod": [_run_json(cell) for cell in results.pretrainings],
        "summary": [
            {
                "network": entry.network,
                "start": entry.start,
                "seeds": [cell.job.seed for cell in entry.cells if cell.status == "done"],
                "scores": {test: _summary(entry, test) for test in tests},
                "minus_scratch": {
                    test: {key: asdict(difference) for key, difference in found.items()}
                    for test, found in entry.differences.items()
                },
                "steps_to_scratch_best": entry.mean_steps,
            }
            for entry in results.entries
        ],
    }


def to_csv(results: Results) -> str:
    """A line for each run and test set, and for each entry the mean and the spread; with every digit."""
    rows, keys = [], {}
    for entry in results.entries:
        for test in results.grid.tests:
            head = {"network": entry.network, "start": entry.start, "test": test}
            for cell in entry.cells:
                scored = cell.scores.get(test)
                keys |= scored.scores if scored else {}
                rows.append({**head, "seed": cell.job.seed, "status": cell.status, **(scored.scores if scored else {})})
            summary = _summary(entry, test)
            for which in ("mean", "sd"):
                rows.append({**head, "seed": which, **{key: values[which] for key, values in summary.items()}})
    out = io.StringIO()
    writer = csv.DictWriter(out, ["network", "start", "test", "seed", "status", *keys], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _summary(entry: Entry, test: str) -> dict[str, dict[str, float | None]]:
    scored = entry.scored(test)
    found = {key: mean_and_spread(entry.values(test, key)) for key in (scored[0].scores if scored else ())}
    return {key: {"mean": mean, "sd": sd} for key, (mean, sd) in found.items()}


def _run_json(cell: Cell) -> dict:
    best = cell.run.best or {}
    return {
        "network": cell.job.network,
        "start": cell.job.start,
        "seed": cell.job.seed,
        "status": cell.status,
        "failure": cell.state.failure and without_home(cell.state.failure),
        "seconds": round(cell.state.seconds, 1),
        "steps": cell.run.steps,
        "best_step": best.get("step"),
        "validation": {key: best.get(f"val_{key}") for key in ("mae", "max_f")},
    }


def _cell_json(entry: Entry, cell: Cell) -> dict:
    reached = next((r for r in entry.reached if r.seed == cell.job.seed), None)
    return {
        **_run_json(cell),
        "scored_step": cell.step,
        "scores": {test: scored.scores for test, scored in cell.scores.items()},
        "steps_to_scratch_best": reached.step if reached else None,
    }


def _require_same_photos(grid: Grid, cells: Sequence[Cell]) -> None:
    """Means over seeds and differences, which are paired by image, are of the same photos or of nothing."""
    for test in grid.tests:
        names = {cell.job.name: [p["id"] for p in cell.scores[test].pictures] for cell in cells if test in cell.scores}
        first = next(iter(names), None)
        for name, photos in names.items():
            if photos != names[first]:
                raise UserError(
                    f"{name} was scored on {len(photos)} photos of {test}, {first} on {len(names[first])}, and not on "
                    "the same: the data has changed in between; give it a new name, and all are scored on it anew"
                )


def _differences(
    ours: Sequence[Cell], baseline: Sequence[Cell], tests: Sequence[str]
) -> dict[str, dict[str, Difference]]:
    found = {}
    for test in tests:
        theirs = {cell.job.seed: cell.scores[test] for cell in baseline if test in cell.scores}
        pairs = [(c.scores[test], theirs[c.job.seed]) for c in ours if test in c.scores and c.job.seed in theirs]
        if pairs:
            a, b = zip(*pairs, strict=True)
            found[test] = {"mae": mae_difference(a, b), "max_f": max_f_difference(a, b)}
    return found


def _reached(ours: Sequence[Cell], baseline: Sequence[Cell]) -> tuple[Reached, ...]:
    targets = {c.job.seed: c.run.best["val_mae"] for c in baseline if c.status == "done" and c.run.best}
    return tuple(
        Reached(cell.job.seed, targets[cell.job.seed], cell.first_below(targets[cell.job.seed]))
        for cell in ours
        if cell.status == "done" and cell.job.seed in targets
    )


def _network_name(grid: Grid, network: str) -> str:
    """The paper's name, with the preset: ``AFIU small``."""
    labels = {cell.method: cell.label for cell in published_cells(2)}
    preset = next((job.config["model"]["preset"] for job in grid.cells if job.network == network), "")
    return f"{labels.get(network, network)} {preset}".strip()
