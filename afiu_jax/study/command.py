"""``afiu study``: runs what is not done of a study, then reports on what there is."""

from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict
from rich.console import Console

from afiu_jax.console import open_console
from afiu_jax.errors import UserError
from afiu_jax.report.formats import to_text
from afiu_jax.study.cells import read_json, scored_in, scored_on
from afiu_jax.study.config import read_study
from afiu_jax.study.generated import identity
from afiu_jax.study.grid import PRETRAINING, Grid, Job, make_grid
from afiu_jax.study.page import write_study
from afiu_jax.study.results import collect
from afiu_jax.study.scheduler import Outcome, Scheduler, devices, is_done
from afiu_jax.study.tables import paper_table
from afiu_jax.study.worker import PRIOR
from afiu_jax.training.checkpoint import has_checkpoints
from afiu_jax.training.checks import has_moved, is_other_folder, other_data
from afiu_jax.training.config import differences
from afiu_jax.training.loop import recorded_start
from afiu_jax.workdir import sole_use
from input_pipeline.paths import at_home
from input_pipeline.sources import Spec, describe, odd_masks, open_source

MAY_CHANGE = ("data.test.", "data.workers", "eval.batch_size", "logging.", "checkpoint.")
"""What may change in the configuration of a study that has begun: what no number depends on. Lengths may not."""


def run_study(
    config: ConfigDict,
    folder: Path,
    only: Sequence[str] = (),
    *,
    report_only: bool = False,
    command: str = "afiu study",
) -> Outcome:
    """Runs what is not done of a study, then writes its tables, figures and page.

    Args:
        config: of ``configs/studies/*.py``.
        folder: where everything goes; made if need be.
        only: patterns of the runs to do, such as ``u2netp/*`` or ``*/scratch*``; all if there are none. The report is
            on the whole study all the same.
        report_only: run nothing.
        command: the command line that the page quotes.

    Returns:
        What failed, this time or before, and which signal stopped it; then no report is written.

    Raises:
        UserError: a wrong configuration, a folder of another study, one at which a second process works.
        DataError: data that is not there or cannot be read.
    """
    # The networks run in processes of their own: this one must not take a GPU's memory from them.
    jax.config.update("jax_platforms", "cpu")
    console, folder = open_console(), at_home(folder).absolute()
    grid = make_grid(read_study(config), folder)
    selected = grid.select(only)
    for line in _check_folder(grid):
        console.print(line, style="yellow")
    todo = [job for job in selected if not is_done(grid, job)]
    # A SOD run, two gigabytes a checkpoint, may be deleted when all that began with it is done.
    needed = {job.needs.name for job in todo if job.needs}
    todo = [j for j in todo if j.start != PRETRAINING or j.name in needed or any(map(j.matches, only))]
    if todo and not report_only:
        outcome = _run(grid, todo, len(selected), console)
        if outcome.stopped_by:
            console.print(f"{outcome.stopped_by}: the same command goes on; with --report-only it shows what there is")
            return outcome
    results = collect(grid)
    page = write_study(results, command)
    console.print(to_text(paper_table(results), second=False), end="")
    runs = (*results.pretrainings, *results.cells)
    failed = {run.job.name: run.state.failure for run in runs if run.status == "failed"}
    for name, reason in failed.items():
        console.print(f"{name} failed: {reason}", style="red")
    console.print(f"report: {page}")
    return Outcome(failed, None)


def _run(grid: Grid, todo: Sequence[Job], selected: int, console: Console) -> Outcome:
    with sole_use(grid.folder, "afiu study", "pass --report-only") as hold:
        for line in _check_data(grid, todo):
            console.print(f"warning: {line}", style="yellow")
        for data in grid.data:
            data.write()
        slots = devices()
        console.print(f"{len(todo)} of {selected} runs to do, {len(slots)} at a time, in {grid.folder}")
        return Scheduler(grid, slots, console, hold.descriptor)(todo)


def _check_folder(grid: Grid) -> list[str]:
    """Refuses a folder in which a cell was run with another configuration; returns warnings of data elsewhere.

    Raises:
        UserError: as it says.
    """
    hint = "pass another --workdir, or the configuration that this study began with"
    made = [str(data.path) for data in grid.data]  # which lies in the study's folder, and may have been copied with it
    warnings: dict[str, None] = {}
    counts: dict[str, tuple[int, Path]] = {}
    for job in (*grid.pretrainings, *grid.cells):
        workdir = grid.workdir(job)
        if not (saved := read_json(workdir / "config.json")):
            continue
        # What has left nothing may begin again with any, as of train.py.
        if not has_checkpoints(workdir) and not any(scored_on(workdir, name) for name in grid.tests_of(job)):
            continue
        begin = saved.pop("init_from", None)
        if records := saved.pop("records", None):
            others, elsewhere = counts.setdefault(str(job.config["data"]["train"]), (records, workdir))
            if records != others:
                raise UserError(
                    f"{workdir} was trained on {records} records and {elsewhere} on {others} of the same data, which "
                    "changed in between: remove the folders of what was trained on the wrong ones"
                )
        changed = differences(saved, job.config, MAY_CHANGE)
        if job.needs and (prior := read_json(workdir / PRIOR)):
            of_run = {key: value for key, value in prior.items() if key not in ("init_from", "records")}
            changed += [f"sod: {line}" for line in differences(of_run, job.needs.config, MAY_CHANGE)]
        if job.weights and begin != (start := recorded_start(job.weights)) and not has_moved(begin, start):
            changed.append(f"weights: {begin} -> {job.weights}")
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise UserError(f"{workdir} was run with another configuration ({'; '.join(changed[:3])}{more}): {hint}")
        warnings.update(dict.fromkeys(other_data(saved, job.config, made)))
        for name, test in grid.tests_of(job).items():
            if scored_on(workdir, name) not in (None, identity(test.spec)):
                raise UserError(
                    f"{workdir} was scored on other data under the name {name}: give the new data a new name"
                )
            old, new = scored_in(workdir, name), test.spec.path
            if new not in made and is_other_folder(old, new):
                raise UserError(
                    f"{workdir} was scored on {name} in {old}, which is still there, not in {new}: if that is a copy, "
                    "rename the old one; else give the new data a new name"
                )
    return list(warnings)


def _check_data(grid: Grid, todo: Sequence[Job]) -> list[str]:
    """Opens everything that is about to be used, so that nothing is missed hours later; returns what is odd about it.

    Raises:
        DataError: as ``open_source``.
    """
    made = {str(data.path) for data in grid.data}
    used, found = [], []
    for job in todo:
        positive, skips = job.config["task"]["positive"], job.config["data"]["on_error"] == "skip"
        used += [(job.config["data"][part], positive, skips) for part in ("train", "val")]
        used += [(vars(test.spec), "blur", False) for test in grid.tests_of(job).values()]
    for fields, positive, skips in {str(use): use for use in used}.values():
        if fields["path"] in made:
            continue
        spec, faults = Spec(**fields), {}
        source = open_source(spec, positive, faults=faults if skips else None)
        if faults:
            found.append(f"{len(faults)} left out of {describe(spec)}, for instance: {next(iter(faults.values()))}")
        found += odd_masks(source, spec)
    return list(dict.fromkeys(found))
