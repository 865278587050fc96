"""Runs whose terminal is closed."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from afiu_jax.serve.server import remove_old
from afiu_jax.training.signals import StopRequest

IN_TERMINAL = """
import os, signal, sys, time
from pathlib import Path
from afiu_jax.training.signals import StopRequest

os.login_tty(int(sys.argv[1]))
if len(sys.argv) > 2:  # | tee log, which ends at the same time
    os.dup2(int(sys.argv[2]), 1)
elif os.environ["THROUGH"] == "nothing":
    os.close(1), os.close(2)
    sys.stdout = None
with StopRequest() as stop:
    Path("ready").touch()
    deadline = time.monotonic() + 60
    while stop.signal is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGHUP)  # as a shell does besides the terminal
    print("saved", flush=True)
Path("report").write_text(stop.signal.name if stop.signal else "nothing came")
"""


@pytest.mark.parametrize("through", ["terminal", "pipe", "nothing"])
def test_a_closed_terminal_is_seen_once_and_printing_is_no_error(tmp_path, through):
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "THROUGH": through}
    reading, writing = os.pipe()
    command = [sys.executable, "-c", IN_TERMINAL, str(theirs), *([str(writing)] if through == "pipe" else [])]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, pass_fds=[theirs, writing])
    os.close(theirs)
    os.close(writing)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.close(reading)
    os.close(ours)
    assert process.wait(timeout=90) == 0
    assert (tmp_path / "report").read_text() == "SIGHUP"


@pytest.mark.parametrize("ignored", [True, False])
def test_a_hangup_is_ignored_where_it_was(ignored):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with StopRequest():
            assert (signal.getsignal(signal.SIGHUP) == signal.SIG_IGN) == ignored
        assert signal.getsignal(signal.SIGHUP) == (signal.SIG_IGN if ignored else signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_broke_off_long_ago_is_removed(tmp_path):
    for name, age in (("old", 3700), ("new", 10)):
        file = tmp_path / name / "photo.jpg"
        file.parent.mkdir()
        file.write_bytes(b"photo")
        os.utime(file, (time.time() - age,) * 2)
    remove_old(tmp_path, 3600)
    assert [path.parent.name for path in tmp_path.rglob("*.jpg")] == ["new"]
