"""What the tests share: one cache of compiled programs, and a run so small that a step takes milliseconds."""

import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Their figures are a CPU's, also on a machine with a GPU, whose memory two processes could not share.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# One folder for this session and the commands that it starts, so that every program is compiled once. The process
# that made it removes it at its end; pytest's workers find it in their environment.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    programs = tempfile.TemporaryDirectory(prefix="afiu-tests-xla-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = programs.name
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # both processes meet the same small ones

# Commands import JAX again and again, which takes twice as long where a container forbids to keep its bytecode.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

ROOT = Path(__file__).parents[1]
TINY_OPTIONS = {
    "width": 4,
    "depths": (1, 1, 1, 1),
    "channels": 4,
    "aim_mid_cap": 4,
    "sim_low": 4,
    "rsu_mid": 4,
    "rsu_heights": (2, 2, 2, 2, 2),
}
TINY = {
    "model.preset": "",
    "data.image_size": 64,
    "data.train.split": "train[:12]",
    "data.val.split": "val[:4]",
    "data.test.split": "test[:4]",
    "train.batch_size": 2,
    "train.num_steps": 6,
    "eval.batch_size": 4,
    "eval.every_steps": 3,
    "checkpoint.every_steps": 2,
    "logging.every_steps": 1,
    **{f"model.options.{key}": value for key, value in TINY_OPTIONS.items()},
}
"""Overrides that make configs/sod.py:demo and configs/dbd.py:demo tiny."""


def tiny_config(name: str = "sod", **overrides):
    """The demo's configuration, tiny; ``overrides`` have ``__`` for the dots of keys."""
    from afiu_jax.training.schema import load_config

    config = load_config(name, "demo")
    for key, value in {**TINY, **{k.replace("__", "."): v for k, v in overrides.items()}}.items():
        *parents, last = key.split(".")
        node = config
        for parent in parents:
            node = node[parent]
        node[last] = value
    return config


def tiny_flags(**overrides) -> list[str]:
    """The same as flags of train.py."""
    values = {**TINY, **{k.replace("__", "."): v for k, v in overrides.items()}}
    return [f"--config.{key}={value}" for key, value in values.items()]


def run_command(*arguments: object, timeout: float = 300, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Runs Python on the given arguments from the project's root, as a person would."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)


def run_here(*arguments: object) -> subprocess.CompletedProcess:
    """``afiu`` as ``run_command`` runs it, but in this process, which has started Python and JAX already."""
    from afiu_jax import errors
    from afiu_jax.cli import app

    out, err, status = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(errors, "leave", sys.exit)  # another test's compiler may be at work
        try:
            app(list(map(str, arguments)))
        except SystemExit as end:
            status = end.code
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def pretend_checkpoint(workdir: Path, step: int, scores: dict[str, float] | None = None) -> None:
    """Leaves behind as much of a checkpoint as tells that it was written to its end."""
    folder = workdir / "checkpoints" / str(step)
    for item, file, text in (("model", "_METADATA", "{}"), ("meta", "metadata", json.dumps({"scores": scores}))):
        (folder / item).mkdir(parents=True)
        (folder / item / file).write_text(text)


def save_untrained(workdir: Path, config) -> Path:
    """Leaves behind the checkpoint of a configuration's network before its first step; gives the folder back."""
    from flax import nnx

    from afiu_jax import create_model
    from afiu_jax.training.checkpoint import Checkpoints
    from afiu_jax.training.config import resolve
    from afiu_jax.training.optimizer import create_optimizer
    from afiu_jax.training.state import create_state

    config = resolve(config)
    model = create_model(config["model"]["name"], rngs=nnx.Rngs(1), **config["model"]["options"])
    with Checkpoints(workdir, 1, hold=None) as checkpoints:
        checkpoints.save(create_state(model, create_optimizer(config)), config, None)
    return workdir


def rewrite_config(workdir: Path, **changes) -> Path:
    """Other values in every checkpoint of a run, ``__`` for the dots of keys; gives the work directory back."""
    for meta in workdir.glob("checkpoints/*/meta/metadata"):
        found = json.loads(meta.read_text())
        for key, value in changes.items():
            *parents, last = key.split("__")
            node = found["config"]
            for parent in parents:
                node = node[parent]
            node[last] = value
        meta.write_text(json.dumps(found))
        (meta.parents[1] / "checksums.json").unlink(missing_ok=True)  # else what was changed counts as damage
    return workdir


def remember_scenes(patch: pytest.MonkeyPatch) -> None:
    """Renders every scene once: runs look at the same few, whose rendering takes half of the time of a tiny one."""
    from input_pipeline import sources
    from input_pipeline.scenes import Scenes

    @lru_cache(maxsize=1000)
    def rendered(index, *scenes):
        return Scenes(*scenes)[index]

    class Remembered(Scenes):
        def __getitem__(self, index):
            record = rendered(index, self.white, self.split, self.shape, self.seed, self.length)
            return {**record, "image": record["image"].copy(), "mask": record["mask"].copy()}

    patch.setattr(sources, "Scenes", Remembered)


@pytest.fixture(scope="session", autouse=True)
def remembered_scenes():
    """As ``remember_scenes``, for the runs of this process."""
    with pytest.MonkeyPatch.context() as patch:
        remember_scenes(patch)
        yield


@pytest.fixture
def pocket(monkeypatch) -> None:
    """The network of ``pocket.py`` is one of the networks."""
    from pocket import add_pocket

    add_pocket(monkeypatch)


@pytest.fixture(scope="session")
def pocket_run(tmp_path_factory) -> Path:
    """Work directory of a finished run of the network of ``pocket.py``."""
    from pocket import add_pocket, pocket_config

    from afiu_jax.training.loop import train_and_evaluate

    workdir = tmp_path_factory.mktemp("runs") / "pocket"
    with pytest.MonkeyPatch.context() as patch:
        add_pocket(patch)
        train_and_evaluate(pocket_config(), workdir)
    return workdir


@pytest.fixture(scope="session")
def sod_run(tmp_path_factory) -> Path:
    """Work directory of a finished tiny SOD run of train.py, whose program every other tiny run of it can use.

    The first of pytest's processes that wants it makes it, for half a minute, and each has a copy of its own.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own.parent / "sod" if "PYTEST_XDIST_WORKER" in os.environ else own / "sod"
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            made = shared.with_suffix(".made")
            shutil.rmtree(made, ignore_errors=True)  # of a process that failed
            done = run_command("train.py", "--config", "configs/sod.py:demo", "--workdir", made, *tiny_flags())
            assert done.returncode == 0, done.stderr
            made.rename(shared)
    return shutil.copytree(shared, tmp_path_factory.mktemp("runs") / "sod")


@pytest.fixture(scope="session")
def untrained(tmp_path_factory) -> Path:
    """Work directory with a checkpoint of a tiny AFIU before its first step."""
    return save_untrained(tmp_path_factory.mktemp("runs") / "untrained", tiny_config())


@pytest.fixture
def half_done(tmp_path):
    """Grid of a study that has come half way, see ``studies.half_done_study``."""
    from studies import half_done_study

    return half_done_study(tmp_path / "study")


@pytest.fixture(scope="session")
def photo():
    """60 × 90 pixels with something in it."""
    from input_pipeline.scenes import Scenes

    return np.asarray(Image.fromarray(Scenes("salient", split="test")[0]["image"]).resize((90, 60)))


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
