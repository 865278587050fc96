"""Seconds from the start of `python train.py` to its first finished step, full AFIU, 160 px, batches of 2.

    python benchmarks/first_step.py [--peer torch/bin/python] [--json first_step.json]

Each round starts anew: with an empty cache of compiled programs, then with what that left, then PyTorch, eager, with
random weights and a random batch. Ours includes reading and preparing its data, which are generated scenes.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rounds import count, environment, interpreter, report, show, write

ROOT = Path(__file__).parents[1]
FLAGS = (
    "--config=configs/sod.py:demo",
    "--config.model.preset=",
    "--config.data.image_size=160",
    "--config.train.batch_size=2",
    "--config.train.num_steps=1000",
)


def until_line(command: list, pattern: str, **changes: str) -> float:
    """Seconds from the start of a process to the first line that fits; the process is ended then."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if re.match(pattern, line):
            seconds = time.perf_counter() - start
            process.kill()
            process.communicate()
            return seconds
    raise SystemExit(process.stderr.read())


def main(flags: argparse.Namespace) -> None:
    seconds = {"ours, empty cache": [], "ours, cached": []}
    if flags.peer:
        seconds["PyTorch, eager"] = []
    with tempfile.TemporaryDirectory() as name:
        for i in range(flags.rounds):
            cache = {"JAX_COMPILATION_CACHE_DIR": f"{name}/cache{i}"}
            for kind in ("ours, empty cache", "ours, cached"):
                workdir = f"{name}/{kind}{i}".replace(" ", "-")
                command = [sys.executable, "train.py", *FLAGS, f"--workdir={workdir}"]
                seconds[kind].append(until_line(command, "step 1/", **cache))
            if flags.peer:
                command = [flags.peer, ROOT / "benchmarks" / "torch_first_step.py"]
                seconds["PyTorch, eager"].append(until_line(command, "step 1"))
    found = report(seconds, "ours, empty cache", case="first step, afiu, 160 px, batch 2")
    show(found["case"], found)
    write(flags.json, [found])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=interpreter, help="Python of the environment with PyTorch")
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there")
    main(parser.parse_args())
