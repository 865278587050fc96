"""The study as a person runs it: killed, stopped, gone on with, with a run that fails and a checkpoint that breaks."""

import fcntl
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, run_command
from test_commands import refusal

from afiu_jax.study.worker import PRIOR
from afiu_jax.training.checkpoint import load_model
from afiu_jax.training.logging import read_metrics

pytestmark = pytest.mark.slow  # minutes: real studies, all networks

CONFIG = """
from conftest import TINY_OPTIONS, tiny_config
from afiu_jax.study.config import base_study, benchmark, network


def get_config():
    config = base_study()
    config.sod, config.dbd = tiny_config("sod"), tiny_config("dbd", task__positive="blur")
    for stage in (config.sod, config.dbd):
        stage.model.options = {}
        stage.train.num_steps = 2
        stage.eval.every_steps = stage.checkpoint.every_steps = 1
        stage.logging.tensorboard = False
    config.starts = ("scratch", "sod", "sod-focus-positive", "published")
    config.tests.scenes = benchmark("scenes", split="test[:3]")
    afiu = {"model": {"options": TINY_OPTIONS}}
    config.networks.afiu = network(sod=afiu, dbd=afiu, weights="nowhere")
    u2netp = {"model": {"options": {"mid": 1, "out": 2}}}
    config.networks.u2netp = network(starts=("scratch",), dbd=u2netp)
    return config
"""


class Study:
    """A folder and the command that works in it."""

    def __init__(self, root: Path):
        (root / "tiny.py").write_text(CONFIG)
        self.folder = root / "study"
        self.arguments = [
            *("-m", "afiu_jax.cli", "study", "--config", str(root / "tiny.py"), "--workdir", str(self.folder)),
        ]

    def __call__(self, *more: str) -> subprocess.CompletedProcess:
        return run_command(*self.arguments, *more, timeout=1500)

    def begin(self, run: str, *more: str) -> subprocess.Popen:
        """Starts the command, and returns when a run has logged its first step."""
        command = [sys.executable, *self.arguments, *more]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        running, deadline = subprocess.Popen(command, cwd=ROOT, **quiet), time.monotonic() + 900
        while not read_metrics(self.folder / run) and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert running.poll() is None, (self.folder / run / "log.txt").read_text()
        return running

    def wait_until_alone(self) -> None:
        """Returns when the last process of a killed study has saved and ended."""
        deadline = time.monotonic() + 300
        with (self.folder / ".lock").open("w") as lock:
            while True:
                try:
                    return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)

    def results(self) -> dict[str, dict]:
        """Cells of ``results.json`` by name."""
        cells = json.loads((self.folder / "results.json").read_text())["cells"]
        return {f"{cell['network']}/{cell['start']}": cell for cell in cells}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study that was stopped in its first run, and then went on to its end."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", str(ROOT / "tests"))
    study = Study(tmp_path_factory.mktemp("study"))
    stopped = study.begin("u2netp/scratch-seed0", "--only", "u2netp/*")
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(timeout=300) == 128 + signal.SIGTERM
    assert {path.name for path in study.folder.iterdir() if path.is_dir()} == {"data", "u2netp"}
    study.last = study()
    yield study
    patch.undo()


def test_it_comes_to_its_end_whatever_happened_before(study):
    cells = study.results()
    assert {name: cell["status"] for name, cell in cells.items()} == {
        **{f"afiu/{start}": "done" for start in ("scratch", "sod", "sod-focus-positive")},
        "afiu/published": "failed",
        "u2netp/scratch": "done",
    }
    for name in ("u2netp/scratch", "afiu/sod", "afiu/sod-pretraining"):
        steps = [line["step"] for line in read_metrics(study.folder / f"{name}-seed0") if "loss" in line]
        assert steps == [1, 2], name


def test_a_failed_run_is_marked_and_the_rest_goes_on(study):
    assert study.last.returncode == 1, study.last.stderr
    reason = "no weights 'nowhere': name one of"
    assert study.results()["afiu/published"]["failure"].startswith(reason)
    for text in (
        study.last.stdout,
        (study.folder / "table2.txt").read_text(),
        (study.folder / "starts.md").read_text(),
    ):
        assert "Traceback" not in text
    assert f"afiu/published-seed0 failed: {reason}" in study.last.stdout
    assert f"afiu/published-seed0 failed: {reason}" in (study.folder / "report.html").read_text().replace("&#39;", "'")


def test_cells_are_ordinary_runs_and_share_the_sod_run(study):
    begun = [str(study.folder / "afiu" / "sod-pretraining-seed0"), None]
    for start, begin in (("sod", begun[0]), ("sod-focus-positive", begun[0]), ("scratch", None)):
        workdir = study.folder / "afiu" / f"{start}-seed0"
        config = json.loads((workdir / "config.json").read_text())
        assert config["init_from"] == begin
        assert (workdir / PRIOR).exists() == bool(begin)
        assert load_model(workdir).config["task"]["positive"] == ("focus" if "focus" in start else "blur")
        assert len(list((workdir / "maps" / "scenes").glob("*.png"))) == 3
    done = run_command("-m", "afiu_jax.cli", "evaluate", "--checkpoint", workdir, "--data", "folder", "--white", "blur",
                       "--path", next((study.folder / "data").glob("scenes-test-3-*")))  # fmt: skip
    assert f"{study.results()['afiu/scratch']['scores']['scenes']['mae']:.4f}" in done.stdout


def test_done_runs_are_left_alone_and_a_report_needs_no_network(study, tmp_path):
    """Even without any checkpoint: scores are kept."""
    copy = Study(tmp_path)
    shutil.copytree(study.folder, copy.folder)
    for run in copy.folder.glob("*/*/checkpoints/*/model"):
        shutil.rmtree(run)
        run.mkdir()
    before = {path: path.stat().st_mtime_ns for path in copy.folder.glob("*/*/metrics.jsonl")}
    numbers = (copy.folder / "results.json").read_text()
    done = copy("--only", "*/s*")
    assert done.returncode == 1, done.stderr
    assert "runs to do" not in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert json.loads((copy.folder / "results.json").read_text())["summary"] == json.loads(numbers)["summary"]


def test_damaged_checkpoints_are_named_and_the_others_go_on(study, tmp_path):
    """A run cannot begin with its SOD run, another not go on; both say why, nothing is removed, a third is scored."""
    copy = Study(tmp_path)
    shutil.copytree(study.folder, copy.folder)
    afiu, own = copy.folder / "afiu", copy.folder / "u2netp" / "scratch-seed0" / "checkpoints"
    for gone in (afiu / "sod-seed0", afiu / "scratch-seed0" / "scores", own / "2", own.with_name("scores")):
        shutil.rmtree(gone)
    damaged = [*afiu.glob("sod-pretraining-seed0/checkpoints/*/model/manifest.ocdbt"), own / "1/optimizer/_METADATA"]
    for file in damaged:
        file.write_bytes(b"")
    done = copy("--only", "afiu/s*", "--only", "u2netp/*")
    assert done.returncode == 1, done.stderr
    cells = copy.results()
    for name, folder in (("afiu/sod", "sod-pretraining-seed0/checkpoints"), ("u2netp/scratch", str(own / "1"))):
        assert cells[name]["status"] == "failed"
        assert folder in cells[name]["failure"]
        assert "cannot be read" in cells[name]["failure"]
    assert cells["afiu/scratch"]["status"] == "done"
    assert all(file.exists() for file in damaged)


def test_one_process_at_a_time_and_only_what_is_there(study):
    with (study.folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another afiu study is at work in" in refusal(*study.arguments)
        assert study("--report-only").returncode == 1  # for the one that has failed
    line = refusal(*study.arguments, "--config.dbd.train.learning_rate=0.5")
    assert "was run with another configuration (train.learning_rate: 0.001 -> 0.5)" in line


@pytest.mark.slow
def test_a_killed_study_leaves_no_process_behind_and_goes_on(study, tmp_path):
    """SIGKILL of the study: its run saves and ends by itself, and only then another study may work there."""
    copy = Study(tmp_path)
    killed = copy.begin("u2netp/scratch-seed0", "--only", "u2netp/*")
    killed.kill()
    killed.wait()
    copy.wait_until_alone()
    assert copy("--only", "u2netp/*").returncode == 0
    assert copy.results()["u2netp/scratch"]["scores"] == study.results()["u2netp/scratch"]["scores"]
