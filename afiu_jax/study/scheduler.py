"""Runs the runs of a study: one process for each, as many at once as there are devices for them."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from afiu_jax.console import can_move
from afiu_jax.study.cells import State, is_finished, read_json, read_state, save_state
from afiu_jax.study.grid import Grid, Job
from afiu_jax.study.worker import write_job
from afiu_jax.training.config import num_steps
from afiu_jax.training.signals import StopRequest

_PAUSE = 0.2  # seconds between two looks at the processes
_TAIL = 4096  # bytes of a log that hold its last line
_STOPPED = (128 + signal.SIGTERM, -signal.SIGTERM)

Device = Mapping[str, str]
"""What a process that shall use a device has in its environment."""


@dataclass(frozen=True)
class Outcome:
    """How it ended.

    Attributes:
        failures: reasons by run, of this time.
        stopped_by: name of the signal that stopped it, or None.
    """

    failures: Mapping[str, str]
    stopped_by: str | None


@dataclass
class _Running:
    """A process at work."""

    job: Job
    device: Device
    process: subprocess.Popen
    log: BinaryIO
    log_start: int
    since: float


def devices() -> list[Device]:
    """Environments for processes that shall work side by side: one for each GPU; one for everything without GPUs.

    JAX is asked in a process of its own, so that this one holds no GPU's memory.
    """
    ask = "import jax; print(jax.default_backend(), jax.local_device_count())"
    answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    backend, count = answer.stdout.split()[-2:]
    if backend != "gpu" or int(count) < 2:
        return [{}]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(int(count))))).split(",")
    return [{"CUDA_VISIBLE_DEVICES": device} for device in visible[: int(count)]]


def is_done(grid: Grid, job: Job) -> bool:
    """Whether nothing is left to do for a run of a study."""
    return is_finished(grid.workdir(job), grid.tests_of(job))


class Scheduler:
    """Works through runs, each after the one that it needs.

    Args:
        grid: the study.
        slots: see ``devices``.
        console: for a line at the beginning and at the end of every run.
        lock: file descriptor that the processes keep open.
    """

    def __init__(self, grid: Grid, slots: Sequence[Device], console: Console, lock: int):
        self.grid, self.free, self.console, self.lock = grid, list(slots), console, lock
        self.running: list[_Running] = []
        self.failures: dict[str, str] = {}

    def __call__(self, jobs: Sequence[Job]) -> Outcome:
        """Runs what is not done; a signal stops all processes, which save what they have."""
        waiting, total = list(jobs), len(jobs)
        bar = Progress(
            TextColumn("{task.completed:.1f} of {task.total} runs"),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not can_move(self.console),
        )
        task = bar.add_task("", total=total)
        with StopRequest() as stop, bar:
            while waiting or self.running:
                if stop.signal:
                    waiting.clear()
                    self._stop()
                self._collect(stopping=stop.signal is not None)
                self._refuse(waiting)
                while self.free and (ready := next(filter(self._is_ready, waiting), None)):
                    waiting.remove(ready)
                    self._start(ready)
                done = total - len(waiting) - len(self.running)
                bar.update(task, completed=done + sum(map(self._share, self.running)), description=self._describe())
                time.sleep(_PAUSE)
        return Outcome(self.failures, stop.signal.name if stop.signal else None)

    def _is_ready(self, job: Job) -> bool:
        return job.needs is None or is_done(self.grid, job.needs)

    def _refuse(self, waiting: list[Job]) -> None:
        """Gives up runs that begin with one that has not come to its end, and will not."""
        pending = {job.name for job in (*waiting, *(running.job for running in self.running))}
        for job in [job for job in waiting if not self._is_ready(job) and job.needs.name not in pending]:
            waiting.remove(job)
            reason = self.failures.get(job.needs.name, "it did not come to its end")
            self._fail(job, 0, f"the run that it begins with, {job.needs.name}, failed: {reason}")

    def _start(self, job: Job) -> None:
        workdir, device = self.grid.workdir(job), self.free.pop(0)
        begin = str(self.grid.workdir(job.needs)) if job.needs else job.weights
        tests = {name: test.spec for name, test in self.grid.tests_of(job).items()}
        file = write_job(workdir, job.config, begin, tests)
        save_state(workdir, replace(read_state(workdir), failure=None))
        log = (workdir / "log.txt").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", "afiu_jax.study.worker", str(file)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **device},
            pass_fds=(self.lock,),
            start_new_session=True,  # Ctrl-C is for this process alone
        )
        self.running.append(_Running(job, device, process, log, log.tell(), time.monotonic()))
        if not can_move(self.console):
            self.console.print(f"{job.name}: begins; its output is in {workdir / 'log.txt'}")

    def _stop(self) -> None:
        """Asks all processes to save and end, as their standard input's end does; see ``worker``."""
        for running in self.running:
            running.process.stdin.close()

    def _collect(self, *, stopping: bool) -> None:
        """Takes note of what has ended."""
        for ended in [running for running in self.running if running.process.poll() is not None]:
            self.running.remove(ended)
            self.free.append(ended.device)
            ended.process.stdin.close()
            ended.log.close()
            seconds, code = time.monotonic() - ended.since, ended.process.returncode
            workdir = self.grid.workdir(ended.job)
            if code == 0 or (stopping and code in _STOPPED):
                self._note(ended.job, seconds, None)
                end = "done" if code == 0 else f"stopped at step {_step(workdir)}"
                self.console.print(f"{ended.job.name}: {end} after {seconds:.0f} s")
            else:
                self._fail(ended.job, seconds, _reason(code, workdir / "log.txt", ended.log_start))

    def _fail(self, job: Job, seconds: float, reason: str) -> None:
        self._note(job, seconds, reason)
        self.failures[job.name] = reason
        self.console.print(f"{job.name}: failed: {reason}", style="red")

    def _note(self, job: Job, seconds: float, failure: str | None) -> None:
        workdir = self.grid.workdir(job)
        save_state(workdir, State(read_state(workdir).seconds + seconds, failure))

    def _share(self, running: _Running) -> float:
        """How much of its training a run has done, 0…1."""
        workdir = self.grid.workdir(running.job)
        config = read_json(workdir / "config.json")
        return _step(workdir) / num_steps(config) if config else 0.0

    def _describe(self) -> str:
        return "  ".join(f"{r.job.name} step {_step(self.grid.workdir(r.job))}" for r in self.running)


def _step(workdir: Path) -> int:
    """The last step that a run has logged."""
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        steps = re.findall(rb'"step": (\d+)', file.read())
    return int(steps[-1]) if steps else 0


def _reason(code: int, log: Path, start: int) -> str:
    """Why a process ended, from its exit status and what it wrote since it began."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    lines = log.read_bytes()[start:].decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else f"exit status {code}"
