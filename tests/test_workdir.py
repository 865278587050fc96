"""A folder belongs to one live process, and what cannot be written is said in one line."""

import errno
import shutil
import signal
import subprocess
import sys

import jax.numpy as jnp
import pytest
from conftest import pretend_checkpoint
from flax import nnx

from afiu_jax import workdir
from afiu_jax.errors import UserError
from afiu_jax.training.checkpoint import Checkpoints
from afiu_jax.training.full_disk import naming_full_disk
from afiu_jax.training.state import TrainState
from afiu_jax.workdir import beside, inside, sole_use

HOLDER = """
import sys, time
from pathlib import Path
from afiu_jax.workdir import sole_use
with sole_use(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def refusal(folder, match):
    with pytest.raises(UserError, match=match) as caught, sole_use(folder):
        pass
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_folder_is_free_again_after_use_and_nothing_lies_beside_it(tmp_path):
    folder = tmp_path / "a" / "run"
    for _ in range(2):
        with sole_use(folder):
            refusal(folder, "another run is at work in .*wait until it has ended, or pass another --workdir")
            assert beside(folder).exists()
    assert list(folder.parent.iterdir()) == [folder]


def test_a_file_system_without_locks_is_said_and_done_without(tmp_path, monkeypatch, capsys):
    def unknown(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")  # Lustre that is mounted without flock

    monkeypatch.setattr(workdir.fcntl, "flock", unknown)
    with sole_use(tmp_path / "run") as hold:
        hold.require()
    told = f"warning: the file system of {tmp_path / 'run'} has no locks: see to it yourself that no other run works"
    assert capsys.readouterr().err == f"{told} there\n"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_live_process_keeps_others_out_and_a_killed_one_does_not(tmp_path, end):
    folder = tmp_path / "run"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        refusal(folder, "another run is at work in")
        shutil.rmtree(folder)  # its owner lives on, and may be saving
        refusal(folder, "another run is at work in")
        holder.send_signal(end)
        holder.wait()
        with sole_use(folder) as hold:
            hold.require()
    finally:
        holder.kill()
        holder.wait()


def test_a_folder_that_was_moved_is_held_at_its_new_place(tmp_path):
    with sole_use(tmp_path / "old") as hold:
        (tmp_path / "old").rename(tmp_path / "new")
        refusal(tmp_path / "new", "another run is at work in")
        assert not beside(tmp_path / "new").exists()
        with pytest.raises(UserError, match="was deleted or moved while this process was at work"):
            hold.require()


def test_nothing_is_saved_into_a_folder_that_was_made_anew(tmp_path):
    folder = tmp_path / "run"
    with sole_use(folder) as hold, Checkpoints(folder, 1, hold) as checkpoints:
        shutil.rmtree(folder)
        folder.mkdir()
        inside(folder).touch()
        with pytest.raises(UserError, match="nothing more is written"):
            checkpoints.save(TrainState(jnp.int32(3), nnx.State({}), nnx.State({}), ()), {}, None)
        assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_lock_that_its_holder_removed_meanwhile_is_not_taken_for_held(tmp_path, monkeypatch):
    """Between opening a lock file and locking it, its last holder may delete it, and a third process make another."""
    path, real, calls = beside(tmp_path / "run"), workdir.fcntl.flock, []

    def late(descriptor, how):
        calls.append(descriptor)
        if len(calls) == 1:
            path.unlink()
            path.touch()
        return real(descriptor, how)

    monkeypatch.setattr(workdir.fcntl, "flock", late)
    with sole_use(tmp_path / "run"):
        refusal(tmp_path / "run", "another run is at work in")
    assert len(calls) == 4  # two for the first lock, one for the second, one refused


@pytest.mark.parametrize("fault", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, fault):
    def fails(path, *_):
        raise OSError(fault, "not here", str(path))

    monkeypatch.setattr(workdir.os, "open", fails)
    refusal(tmp_path / "run", r"cannot write in .*\(not here\): pass another --workdir")


def test_a_file_in_the_folders_place_is_named(tmp_path):
    (tmp_path / "file").touch()
    refusal(tmp_path / "file", "cannot write in .*File exists")
    refusal(tmp_path / "file" / "run", "cannot write in .*Not a directory")


def test_a_parent_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    real = workdir.os.open

    def guarded(path, *arguments):
        if path == beside(tmp_path / "run"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments)

    monkeypatch.setattr(workdir.os, "open", guarded)
    with sole_use(tmp_path / "run"):
        refusal(tmp_path / "run", "another run is at work in")


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), ValueError("RESOURCE_EXHAUSTED: 'x': No space left on device")],
)
def test_a_full_disk_is_one_line_even_behind_another_error(tmp_path, error):
    for step in (4, 10):
        pretend_checkpoint(tmp_path, step)
    said = r"no space left on the disk .*; the checkpoint of step 10 is whole: make room"
    with pytest.raises(UserError, match=said), naming_full_disk(tmp_path):
        raise RuntimeError("saving failed") from error
    with pytest.raises(RuntimeError, match="other"), naming_full_disk(tmp_path):
        raise RuntimeError("other")
