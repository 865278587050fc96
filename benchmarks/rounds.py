"""Two programs against each other: processes that take turns, medians of the rounds, and a report."""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np


def environment(**changes: str) -> dict[str, str]:
    """That of a command whose start is timed: bytecode is kept, as on a laptop and not in every container."""
    return {**{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}, **changes}


def interpreter(path: str) -> Path:
    """The peer's Python, for argparse, which refuses in one line what is none."""
    if not os.access(path, os.X_OK) or Path(path).is_dir():
        raise argparse.ArgumentTypeError(f"no Python at {path}: make the environment of benchmarks/README.md")
    return Path(path)


def count(text: str) -> int:
    """A number of rounds, for argparse, which refuses in one line what is not 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rounds: give 1 or more")
    return int(text)


def folder(*parts: str) -> Callable[[str], Path]:
    """A folder with folders of these names, for argparse, which refuses any other in one line."""

    def existing(path: str) -> Path:
        for wanted in (Path(path), *(Path(path, part) for part in parts)):
            if not wanted.is_dir():
                raise argparse.ArgumentTypeError(
                    f"no folder {wanted}: name one of pictures, as in benchmarks/README.md"
                )
        return Path(path)

    return existing


class Worker:
    """A process that measures one thing whenever it is asked.

    It writes a line of JSON when it is ready, and one with ``seconds`` for each line that it is sent.

    Args:
        command: what to start.

    Attributes:
        ready: what it said at first.

    Raises:
        RuntimeError: it ended before it was ready; the message has the end of what it printed.
    """

    def __init__(self, *command: object):
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(self._process.communicate()[1][-300:])
        self.ready = json.loads(line)

    def __call__(self) -> float:
        """Seconds of one more measurement."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())["seconds"]

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def answer(measure, **ready: object) -> None:
    """The worker's side: says that it is ready, then measures whenever it is asked, until nobody asks any more."""
    print(json.dumps(ready), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"seconds": measure()}), flush=True)


def alternate(workers: dict[str, Worker], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round by worker; the first round, which warms up, is not counted."""
    seconds = {name: [] for name in workers}
    for number in range(rounds + 1):
        for name, worker in workers.items():
            found = worker()
            if number:
                seconds[name].append(found)
    return seconds


def report(seconds: dict[str, list[float]], ours: str, **more: object) -> dict:
    """Medians, spread and our speed as a multiple of each peer's."""
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    return {
        "seconds": medians,
        "range": {name: [min(values), max(values)] for name, values in seconds.items()},
        "times_as_fast": {name: value / medians[ours] for name, value in medians.items() if name != ours},
        "rounds": len(seconds[ours]),
        **more,
    }


def show(title: str, found: dict, unit: str = "s") -> None:
    """A report for people."""
    print(f"{title} (medians of {found['rounds']} alternating rounds)")
    for name, value in found["seconds"].items():
        low, high = found["range"][name]
        ratio = f"   ours is {found['times_as_fast'][name]:.2f} x as fast" if name in found["times_as_fast"] else ""
        print(f"  {name:28s} {value:8.3f} {unit} ({low:.3f}…{high:.3f}){ratio}", flush=True)


def machine() -> dict:
    """Where figures were made."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ":?")
    return {
        "cpu": cpu.partition(":")[2].strip(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("jax", "jaxlib", "flax", "optax")},
    }


def write(path: Path | None, results: list[dict]) -> None:
    """The reports and the machine as JSON, if a file was named."""
    if path:
        text = json.dumps({"machine": machine(), "results": results}, indent=2)
        path.write_text(text + "\n", encoding="utf-8")
