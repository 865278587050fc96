"""A run on a disk that becomes full, on a small tmpfs; needs the right to mount one."""

import subprocess

import pytest
from pocket import pocket_flags
from test_kill import start

from afiu_jax.training.checkpoint import load_model, whole_steps
from afiu_jax.training.logging import read_metrics


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def train(workdir, num_steps=60):
    flags = pocket_flags(train__num_steps=num_steps, checkpoint__every_steps=1, checkpoint__keep_last=100)
    process = start(workdir, *flags)
    said, errors = process.communicate(timeout=580)
    return subprocess.CompletedProcess(process.args, process.returncode, said, errors)


def test_a_full_disk_stops_the_run_in_one_line_and_what_was_saved_is_whole(small_disk):
    workdir = small_disk / "run"
    stopped = train(workdir)
    assert stopped.returncode == 2, stopped.stderr
    # TensorStore's threads may print errors of their own while the process ends; ours is one line.
    errors = [line for line in stopped.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    steps = whole_steps(workdir)
    assert f"no space left on the disk of {workdir}; the checkpoint of step {steps[-1]} is whole" in errors[0]
    for step in steps:
        assert load_model(workdir / "checkpoints" / str(step)).step == step
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    steps = steps[-1] + 2
    assert train(workdir, steps).returncode == 0
    assert [line["step"] for line in read_metrics(workdir) if "loss" in line] == list(range(1, steps + 1))


def test_a_read_only_disk_is_named(small_disk):
    (small_disk / "run").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = train(small_disk / "run")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"error: cannot write in {small_disk / 'run'} (Read-only file system): pass another --workdir"
    )
    assert not list((small_disk / "run").iterdir())
