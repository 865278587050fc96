"""Several processes that share a run."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from conftest import ROOT, run_command, tiny_flags
from jax._src.clusters import ClusterEnv
from jax.experimental import multihost_utils
from pocket import pocket_config, pocket_flags

from afiu_jax.compilation import program_folder
from afiu_jax.errors import UserError
from afiu_jax.training.checkpoint import has_scores, load_model
from afiu_jax.training.config import resolve
from afiu_jax.training.hosts import agreed_signal, join_hosts, require_agreement
from afiu_jax.training.logging import read_metrics
from afiu_jax.training.loop import train_and_evaluate
from afiu_jax.workdir import sole_use

SHARED = {"train__batch_size": 4, "train__learning_rate": 1e-5, "train__statistics_batches": 2}


def start_processes(workdir, *flags, config="configs/sod.py:demo", count=2, unlike=None, **overrides):
    """So many processes of one run, some with a flag of their own, without waiting for them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    command = [sys.executable, "train.py", f"--config={config}", f"--workdir={workdir}", *flags]
    command += [
        *(tiny_flags if "configs" in config else pocket_flags)(**{**SHARED, **overrides}),
        f"--coordinator={address}",
        f"--processes={count}",
    ]
    return [
        subprocess.Popen(
            [*command, f"--process={i}", *([unlike[i]] if i in (unlike or {}) else [])],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(count)
    ]


def finish(processes):
    """Their outputs; each must have ended well."""
    outputs = []
    for process in processes:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        outputs.append(out)
    return outputs


@pytest.mark.slow
def test_two_processes_replace_a_checkpoint_that_one_left_unvalidated(pocket, tmp_path):
    """Of step 4, which is validated only from now on; with parts of batches, which are those of one process."""
    same = {**SHARED, "train__accumulate": 2}
    train_and_evaluate(pocket_config(**same), tmp_path / "alone")
    shutil.copytree(tmp_path / "alone", tmp_path / "shared")
    shutil.rmtree(tmp_path / "shared" / "checkpoints" / "6")
    assert not has_scores(tmp_path / "shared", 4)
    both = start_processes(tmp_path / "shared", config="tests/pocket.py", **same, eval__every_steps=2)
    assert "resumed at step 4" in finish(both)[0]
    assert has_scores(tmp_path / "shared", 4)
    assert not (tmp_path / "shared" / "replaced").exists()
    alone, shared = (
        [line["loss"] for line in read_metrics(tmp_path / name) if "loss" in line] for name in ("alone", "shared")
    )
    np.testing.assert_allclose(shared, alone, rtol=1e-5)


@pytest.mark.slow
def test_two_processes_train_save_and_resume_also_as_one(tmp_path):
    first = finish(start_processes(tmp_path / "shared", train__num_steps=2))
    assert "devices: 2 x cpu" in first[0]
    assert "step" not in first[1]  # one of them talks; Gloo greets from both
    assert "resumed at step 2" in finish(start_processes(tmp_path / "shared", train__num_steps=4))[0]
    alone = ("train.py", "--config", "configs/sod.py:demo", *tiny_flags(**SHARED))
    for workdir in ("shared", "alone"):
        done = run_command(*alone, "--workdir", tmp_path / workdir, timeout=600)
        assert done.returncode == 0, done.stderr
    shared, whole = (read_metrics(tmp_path / name) for name in ("shared", "alone"))
    assert [line["step"] for line in shared if "loss" in line] == [1, 2, 3, 4, 5, 6]
    losses = ([line["loss"] for line in lines if "loss" in line] for lines in (shared, whole))
    np.testing.assert_allclose(*losses, rtol=1e-5)
    shared, whole = (load_model(tmp_path / name / "checkpoints" / "6") for name in ("shared", "alone"))
    for name, value in whole.params.items():
        np.testing.assert_allclose(shared.params[name], value, atol=1.3e-4, err_msg=name)
    assert shared.scores["mae"] == pytest.approx(whole.scores["mae"], rel=1e-3)


@pytest.mark.slow
def test_two_processes_start_from_the_weights_of_another_run(tmp_path):
    sod = tmp_path / "sod"
    done = run_command("train.py", "--config=configs/sod.py:demo", "--workdir", sod, *tiny_flags(train__num_steps=2))
    assert done.returncode == 0, done.stderr
    said = finish(
        start_processes(tmp_path / "shared", f"--init_from={sod}", config="configs/dbd.py:demo", train__num_steps=3)
    )
    assert "initial weights" in said[0] and "absent 0, reshaped 0, unused 0" in said[0]
    flags = tiny_flags(**SHARED, train__num_steps=3)
    done = run_command(
        "train.py", "--config=configs/dbd.py:demo", "--workdir", tmp_path / "alone", f"--init_from={sod}", *flags
    )
    assert done.returncode == 0, done.stderr
    losses = ([x["loss"] for x in read_metrics(tmp_path / name) if "loss" in x] for name in ("shared", "alone"))
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_at_the_same_step(tmp_path):
    running = start_processes(tmp_path, train__num_steps=100_000, eval__every_steps=100_000)
    deadline = time.monotonic() + 400
    while not read_metrics(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    os.kill(running[1].pid, signal.SIGTERM)
    for process in running:
        process.communicate(timeout=200)
        assert process.returncode == 128 + signal.SIGTERM
    last = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert read_metrics(tmp_path)[-1]["step"] == last


@pytest.mark.slow
def test_processes_of_different_configurations_are_refused_by_all(pocket, tmp_path):
    running = start_processes(
        tmp_path / "run", config="tests/pocket.py", unlike={1: "--config.train.learning_rate=0.1"}
    )
    for process in running:
        _, errors = process.communicate(timeout=200)
        assert (process.returncode, errors.count("\n")) == (2, 1), errors
        assert "the processes of this run have different configurations" in errors
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_a_folder_that_not_all_see_is_refused_by_all(pocket, tmp_path):
    unlike = {1: f"--workdir={tmp_path / 'there'}"}
    for process in start_processes(tmp_path / "here", config="tests/pocket.py", unlike=unlike):
        _, errors = process.communicate(timeout=200)
        assert (process.returncode, errors.count("\n")) == (2, 1), errors
        assert "not every process of this run sees what the first one writes in" in errors
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_folder_that_is_in_use_is_refused_by_all(pocket, tmp_path):
    with sole_use(tmp_path / "run"):
        both = start_processes(tmp_path / "run", config="tests/pocket.py")
        errors = [process.communicate(timeout=200)[1] for process in both]
    assert [process.returncode for process in both] == [2, 2], errors
    assert [said.count("\n") for said in errors] == [1, 1], errors
    assert f"another run is at work in {tmp_path / 'run'}" in errors[0]
    assert f"the first process cannot work in {tmp_path / 'run'}, and says why" in errors[1]


def test_only_paths_may_differ_between_processes(pocket, monkeypatch):
    told = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda own: np.stack([own, (told or [own])[0]]))
    config = resolve(pocket_config())
    with monkeypatch.context() as first:
        first.setattr(multihost_utils, "process_allgather", lambda own: told.append(own) or np.stack([own, own]))
        require_agreement({**config, "records": 12, "init_from": "/here/sod"})
    config["data"]["train"]["path"] = "/elsewhere"
    require_agreement({**config, "records": 12, "init_from": "/there/sod"})
    with pytest.raises(UserError, match="different configurations, or data of different lengths"):
        require_agreement({**config, "records": 11, "init_from": "/here/sod"})


def test_processes_that_cannot_be_joined_are_refused():
    join_hosts(None, None, None)
    with pytest.raises(UserError, match="belong together: pass all three"):
        join_hosts("localhost:1", 2, None)
    with pytest.raises(UserError, match="--process is 2; it must lie in 0…1"):
        join_hosts("localhost:1", 2, 2)


def test_a_process_of_a_job_has_all_devices_that_it_sees_unless_the_job_says_all(monkeypatch):
    """What JAX gives a process that is the fourth of a job of Slurm, alone on its machine."""
    for name, value in (
        *(("JOB_ID", "1"), ("STEP_NODELIST", "node[1-8]"), ("NTASKS", "8"), ("PROCID", "3"), ("LOCALID", "0")),
    ):
        monkeypatch.setenv(f"SLURM_{name}", value)
    given = []

    def initialize(address=None, processes=None, process=None, cluster_detection_method=None):
        """As the real one finds out what was not said, without the connection."""
        found = (address, processes, process, None)
        if cluster_detection_method != "deactivate":
            found = ClusterEnv.auto_detect_unset_distributed_params(*found, cluster_detection_method, 1)
        given.append(found)

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    join_hosts("node1:9876", 8, 3)
    join_hosts("auto", None, None)
    assert given[0] == ("node1:9876", 8, 3, None)
    assert given[1][1:] == (8, 3, [0])


@pytest.mark.parametrize("folder", [None, "of all machines"])
def test_programs_are_kept_by_several_processes_only_where_they_were_told_to(monkeypatch, folder):
    """A folder of each machine's own would have all the first one's programs, and no other any."""
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: None)
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", folder)
        join_hosts("localhost:1", 2, 0)
        assert jax.config.jax_enable_compilation_cache == bool(folder)
        assert (program_folder() is None) == (folder is None)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
        jax.config.update("jax_enable_compilation_cache", True)


def test_a_run_of_one_stops_at_once():
    assert agreed_signal(signal.SIGTERM, 3, 20) is signal.SIGTERM
    assert agreed_signal(None, 20, 20) is None
