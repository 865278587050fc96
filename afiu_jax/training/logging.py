"""What a run writes while it goes: ``metrics.jsonl``, TensorBoard, and a live line of progress."""

import json
import os
import time
from itertools import count
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from afiu_jax.console import can_move
from afiu_jax.training.board import Board


class MetricsLog:
    """Scalars by step, one JSON object per line, in ``WORKDIR/metrics.jsonl``; the same in TensorBoard.

    On resume, lines past the restored step are cut, so that every step stands there once.

    Args:
        workdir: the run's folder.
        start_step: the restored step; 0 begins anew.
        unvalidated: whether that step is validated again; a process that was killed may have logged some of it.
        tensorboard: whether ``WORKDIR/tensorboard`` is written, too.
    """

    def __init__(self, workdir: Path, start_step: int, tensorboard: bool, unvalidated: bool = False):
        path = workdir / "metrics.jsonl"
        _cut(path, start_step, unvalidated)
        self._file = path.open("a", encoding="utf-8")
        self._board = Board(workdir / "tensorboard", start_step) if tensorboard else None

    def scalars(self, step: int, **values: float) -> None:
        """Writes one line, at once."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._board:
            for name, value in values.items():
                self._board.scalar(name, value, step)
            self._board.flush()

    def event(self, step: int, **values: str | list[str]) -> None:
        """Writes one line on something that happened, at once; TensorBoard has no place for it."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()

    def panel(self, step: int, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        """Shows a picture in TensorBoard."""
        if self._board:
            self._board.picture("validation", picture, step)
            self._board.flush()

    def close(self) -> None:
        """Flushes to disk."""
        os.fsync(self._file.fileno())
        self._file.close()
        if self._board:
            self._board.close()


class SilentLog:
    """The log of a process that leaves writing to another one: takes what ``MetricsLog`` takes, and forgets it."""

    def scalars(self, step: int, **values: float) -> None:
        """Nothing."""

    def event(self, step: int, **values: object) -> None:
        """Nothing."""

    def panel(self, step: int, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def read_metrics(workdir: Path) -> list[dict]:
    """The lines of a run's ``metrics.jsonl``; what a crash left half-written is passed over."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return [line for text in lines if (line := _parse(text)) is not None]


def write_json(path: Path, value: dict) -> None:
    """Writes a file that is either the old one or the new one, whatever happens in between."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())  # else a machine that fails soon may know the new name of an empty file
    temporary.replace(path)


def _parse(text: str) -> dict | None:
    try:
        line = json.loads(text)
    except json.JSONDecodeError:
        return None
    return line if isinstance(line, dict) and "step" in line else None


def keep_old_log(workdir: Path) -> Path | None:
    """Moves the log of a run that has no checkpoints out of the way of one that begins.

    Returns:
        where it is now; None if the run had not gone on from its first validation, and is only begun again.
    """
    lines = read_metrics(workdir)
    validated = next((line["step"] for line in lines if "val_mae" in line), None)
    if validated is None or lines[-1]["step"] <= validated:
        return None
    kept = next(path for i in count(1) if not (path := workdir / f"metrics-{i}.jsonl").exists())
    return (workdir / "metrics.jsonl").rename(kept)


def _cut(path: Path, last_step: int, unvalidated: bool) -> None:
    kept = [line for line in read_metrics(path.parent) if line["step"] <= last_step]
    if unvalidated:
        kept = [
            line for line in kept if line["step"] < last_step or not ("val_mae" in line or line.get("part") == "val")
        ]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    temporary.replace(path)


class LiveLine:
    """Progress of a run: a bar that moves in a terminal, a line now and then elsewhere.

    Args:
        total: steps of the whole run.
        start: steps done before.
        batch_size: records in a step.
        records: records in an epoch.
        console: where to.
    """

    def __init__(self, total: int, start: int, batch_size: int, records: int, console: Console):
        self.console, self.total, self.batch_size, self.records = console, total, batch_size, records
        self._bar = Progress(
            TextColumn("step {task.completed:,.0f}/{task.total:,.0f}"),
            BarColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not can_move(console),
        )
        self._task = self._bar.add_task("train", total=total, completed=start, status="compiling the step …")
        self._bar.start()

    def advance(self, step: int) -> None:
        """Moves the bar."""
        self._bar.update(self._task, completed=step)

    def say(self, step: int, loss: float, images_per_second: float) -> None:
        """Shows the state of a step that is logged."""
        epoch = step / max(1, self.records // self.batch_size)  # of whole batches, as everywhere
        status = f"epoch {epoch:.2f}  loss {loss:.4f}  {images_per_second:.1f} images/s"
        self._bar.update(self._task, status=status)
        if not can_move(self.console):
            left = (self.total - step) * self.batch_size / images_per_second if images_per_second else 0
            self.console.print(f"step {step}/{self.total}  {status}  {duration(left)} left")

    def stop(self) -> None:
        """Leaves the terminal as it was."""
        self._bar.stop()


class Clock:
    """Steps per second since the last question; the time for validation is left out.

    Args:
        step: where the count begins.
    """

    def __init__(self, step: int):
        self._step, self._since, self._paused = step, time.monotonic(), 0.0

    def rate(self, step: int) -> float:
        """Steps per second up to ``step``. The first answer includes the time to compile."""
        now = time.monotonic()
        rate = (step - self._step) / max(now - self._since, 1e-9)
        self._step, self._since = step, now
        return rate

    def pause(self) -> None:
        """Stops the clock."""
        self._paused = time.monotonic()

    def resume(self) -> None:
        """Goes on."""
        self._since += time.monotonic() - self._paused


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: ``1:02:03``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
