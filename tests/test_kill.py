"""Runs that are killed: the real command, SIGKILL and SIGTERM at any moment, and what the next start makes of it."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, tiny_flags
from pocket import pocket_flags
from test_training import assert_same_run, parameters, timeless

from afiu_jax.training.checkpoint import whole_steps
from afiu_jax.training.logging import read_metrics

BUSY = {"checkpoint__every_steps": 2, "eval__every_steps": 10, "checkpoint__keep_last": 2}
"""So many checkpoints that most of the time one is being written."""

SMALL = "configs/sod.py:demo"
"""AFIU-small, which a step takes half a second with."""


def start(workdir, *flags, config="tests/pocket.py"):
    command = [sys.executable, "train.py", f"--config={config}", f"--workdir={workdir}", *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "tests")}, **pipes)


def until(process, pattern):
    """The lines that a process says up to one that fits."""
    said = []
    for line in process.stdout:
        said.append(line)
        if re.match(pattern, line):
            return said
    raise AssertionError(f"it ended: {said}{process.stderr.read()}")


def finished(workdir, flags, config="tests/pocket.py"):
    process = start(workdir, *flags, config=config)
    said, errors = process.communicate(timeout=580)
    assert process.returncode == 0, errors
    return said


@pytest.mark.parametrize(
    ("kills", "steps", "kind"),
    [(1, 20, []), pytest.param(30, 160, [SMALL, *tiny_flags()], marks=pytest.mark.slow)],
    ids=["short", "long"],
)
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_was(kills, steps, kind, tmp_path):
    """Parameters, and with every step's loss the order of the data, are those of the undisturbed run bit for bit."""
    config, *flags = kind or ["tests/pocket.py"]
    flags += pocket_flags(train__num_steps=steps, **BUSY)
    finished(tmp_path / "whole", flags, config)
    random, workdir, half_written, resumed_at = np.random.default_rng(kills), tmp_path / "killed", 0, set()
    for _ in range(kills):
        kept = whole_steps(workdir)
        process = start(workdir, *flags, config=config)
        said = "".join(until(process, r"step \d+/"))
        resumed = re.search(r"resumed at step (\d+)", said)
        assert (int(resumed[1]) if resumed else None) == (kept[-1] if kept else None)
        resumed_at.add(kept[-1] if kept else 0)
        assert "warning" not in said
        time.sleep(random.uniform(0, steps / 20))  # the first checkpoint takes about three to write
        assert process.poll() is None, "it ended before it was killed: give it more steps"
        process.kill()
        process.communicate()
        half_written += any("tmp" in path.name for path in (workdir / "checkpoints").iterdir())
    assert "warning" not in finished(workdir, flags, config)
    assert [line["step"] for line in read_metrics(workdir) if "loss" in line] == list(range(1, steps + 1))
    assert timeless(workdir) == timeless(tmp_path / "whole")
    ours, theirs = parameters(workdir, steps), parameters(tmp_path / "whole", steps)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    print(f"{kills} kills, {half_written} while a checkpoint was written; went on from steps {sorted(resumed_at)}")
    if kills == 30:
        assert half_written, "no kill hit the writing of a checkpoint"
        assert len(resumed_at) > 5, "the kills came too early to get anywhere"


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["training", "validation"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_preempted_afiu_small_is_saved_within_30_seconds(moment, number, tmp_path):
    """The demo's real size: AFIU-small at 96 px, batches of 8; the next start goes on from the step that was saved."""
    flags = ["--config.eval.every_steps=20", "--config.logging.every_steps=1", "--config.checkpoint.every_steps=1000"]
    process = start(tmp_path / "run", *flags, config=SMALL)
    # What follows step 20 is its validation: new statistics first, then scores.
    until(process, r"step 12/" if moment == "training" else r"step 20/")
    asked = time.monotonic()
    process.send_signal(number)
    said, errors = process.communicate(timeout=120)
    waited = time.monotonic() - asked
    print(f"{number.name} in {moment}: {waited:.1f} s to the end")
    assert process.returncode == 128 + number, errors
    saved = re.search(rf"{number.name}: saved step (\d+); the same command goes on from there", said)
    assert whole_steps(tmp_path / "run") == [int(saved[1])]
    assert waited <= 30
    again = start(tmp_path / "run", *flags, config=SMALL)
    assert f"resumed at step {saved[1]} of" in "".join(until(again, r"resumed|step \d+/"))
    again.kill()
    again.communicate()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_first_step_ends_a_run_soon(tmp_path, sent):
    process = start(tmp_path / "run")
    until(process, r"devices: ")
    process.send_signal(sent)
    assert process.wait(timeout=30) in (-sent, 128 + sent)
    assert not whole_steps(tmp_path / "run")
    finished(tmp_path / "run", [])


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["train.py", "--config=configs/sod.py:demo"], ["-m", "afiu_jax.cli", "demo"]], ids=str
)
def test_ctrl_c_while_the_step_is_compiled_ends_a_run_at_once(command, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    folder = [f"--workdir={tmp_path}/run"] if command[0] == "train.py" else [f"--out={tmp_path}/run"]
    process = subprocess.Popen(
        [sys.executable, *command, *folder], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(process, r"│ head ")  # weights are drawn
    time.sleep(8)  # the step is traced, and compiled for many seconds
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (130, "interrupted\n")
    assert "step 1/" not in said
    assert time.monotonic() - asked < 5


@pytest.mark.slow
def test_a_second_signal_at_any_moment_leaves_whole_checkpoints(pocket_run, tmp_path):
    """A second SIGTERM while the first one's checkpoint is being written."""
    flags = pocket_flags(checkpoint__every_steps=1)
    process = start(tmp_path / "run", *flags)
    until(process, r"step 2/")
    process.terminate()
    time.sleep(0.02)
    process.terminate()
    assert process.wait(timeout=60) in (-signal.SIGTERM, 128 + signal.SIGTERM, 0)
    assert "warning" not in finished(tmp_path / "run", flags)
    assert_same_run(pocket_run, tmp_path / "run")
