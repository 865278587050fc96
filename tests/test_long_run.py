"""Thousands of steps: memory, file handles and disk stay flat, checkpoints are pruned, and steps keep their pace."""

import os
import re
import tempfile
from collections import Counter
from functools import reduce
from operator import and_
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_flags
from pocket import pocket_flags
from test_kill import SMALL, start

from afiu_jax.training.logging import read_metrics


def resident(process: int) -> float:
    """MiB that a process has in memory."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]) / 1024


def size(folder: Path) -> float:
    """MiB on disk below a folder, of what is there while others write and delete."""
    found = 0
    for parent, _, names in os.walk(folder):  # passes over folders that have gone, as rglob does not
        for name in names:
            try:
                found += Path(parent, name).stat().st_blocks * 512
            except FileNotFoundError:
                continue
    return found / 2**20


def opened(process: int) -> list[str]:
    """What the open file handles of a process stand for: paths of files, sockets and pipes by number, …"""
    found = []
    for handle in Path(f"/proc/{process}/fd").iterdir():
        try:
            found.append(str(handle.readlink()))
        except FileNotFoundError:
            continue
    return found


def numbered(handles: list[str]) -> Counter[str]:
    """Those that tell one from another of their kind, unlike ``anon_inode:[eventpoll]``, and how many of each."""
    return Counter(name for name in handles if not name.startswith("anon_inode:"))


@pytest.fixture
def memory_folder(tmp_path):
    """A folder in memory where the system has one: how fast a disk takes what is written changes over minutes."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


A_CHECKPOINT = 2
"""MiB that the process may grow with each checkpoint: TensorStore keeps about half a kB of every array it writes."""

LOOPS = 9
"""File handles of three event loops of Orbax: up to five are open while it saves, and it lets go of them a while later,
of one before or after another."""


@pytest.mark.parametrize(
    ("kind", "steps", "warm_up", "every", "slack"),
    [
        (["tests/pocket.py"], 240, 110, 20, 100),  # the allocator settles slowly
        pytest.param([SMALL, *tiny_flags()], 5000, 200, 50, 8, marks=pytest.mark.slow),
    ],
    ids=["short", "long"],
)
def test_a_long_run_stays_as_it_was_after_warming_up(kind, steps, warm_up, every, slack, memory_folder):
    config, *flags = kind
    flags += pocket_flags(
        train__num_steps=steps,
        logging__every_steps=10,
        eval__every_steps=100,
        checkpoint__every_steps=every,
        checkpoint__keep_last=3,
    )
    process, seen = start(memory_folder, *flags, config=config), []
    for line in process.stdout:
        if step := re.match(r"step (\d+)/", line):
            handles, disk = opened(process.pid), size(memory_folder / "checkpoints")
            seen.append((int(step[1]), resident(process.pid), disk, handles))
    assert process.wait() == 0, process.stderr.read()
    warm = [values for values in seen if values[0] > warm_up]
    first, last = warm[: len(warm) // 4], warm[-len(warm) // 4 :]
    at, memory, disk = (
        [np.median([values[column] for values in part]) for part in (first, last)] for column in range(3)
    )
    handles = [min(len(values[3]) for values in part) for part in (first, last)]  # those of a checkpoint come and go
    most = max(values[2] for values in warm)
    rates = {line["step"]: line["images_per_second"] for line in read_metrics(memory_folder) if "loss" in line}
    early = np.median([rate for step, rate in rates.items() if warm_up < step <= warm_up + 500])
    late = np.median([rate for step, rate in rates.items() if step > steps - 500])
    print(
        f"{steps} steps: resident {memory[0]:.0f} -> {memory[1]:.0f} MiB, handles {handles[0]} -> {handles[1]},"
        f" checkpoints {disk[0]:.1f} -> {disk[1]:.1f}, at most {most:.1f} MiB, {early:.2f} -> {late:.2f} images/s"
    )
    kept = {path.name for path in (memory_folder / "checkpoints").iterdir() if path.name.isdigit()}
    assert {str(steps - 2 * every), str(steps - every), str(steps)} <= kept
    assert len(kept) <= 4  # the last three and the best
    assert memory[1] - memory[0] <= slack + A_CHECKPOINT * (at[1] - at[0]) / every
    assert handles[1] <= handles[0] + LOOPS
    earlier = [values[3] for values in warm if values[0] <= steps - 2 * every]
    lasting = reduce(and_, map(numbered, [earlier[-1], *(values[3] for values in last)])) - numbered(earlier[0])
    assert lasting.total() <= 2, f"opened after warming up, and still there two checkpoints later: {lasting}"
    one = size(memory_folder / "checkpoints" / str(steps))
    assert disk[1] <= disk[0] + 2 * one  # the best may be among the last three or not, and one may be on its way out
    # For a moment: those, two that are being removed, and one that is being written, whose parts are there three times
    # when they are merged.
    assert most <= 10 * one
    if steps == 5000:  # a busy machine makes less of a difference over minutes
        assert late >= 0.95 * early
