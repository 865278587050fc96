"""The real commands, run as a person runs them: their output, their exit status, and what a kill leaves."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import run_command, run_here, tiny_flags
from PIL import Image

from afiu_jax.cli import _at_home
from afiu_jax.errors import one_line_errors
from afiu_jax.training.logging import read_metrics


def refusal(*arguments) -> str:
    """The one line that a refused command prints."""
    return refused(run_command(*arguments))


def refused(done: subprocess.CompletedProcess) -> str:
    """The one line that a command says when it refuses."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--config", "configs/none.py"), "cannot read the configuration file configs/none.py"),
        (("--config", "configs/sod.py:huge"), "error: no variant 'huge'; write nothing"),
        (("--config", "configs/sod.py:demo", "--config.train.lr=3"), "unknown configuration key 'train.lr'"),
        (("--config", "configs/sod.py:demo", "--init_form=x"), "init_form"),
        (("--config", "configs/sod.py:demo", "extra"), "unexpected argument 'extra'"),
    ],
)
def test_train_refuses_wrong_flags_in_one_line(arguments, message, tmp_path):
    assert message in refusal("train.py", *arguments, "--workdir", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_data_set_says_where_to_get_it_and_names_the_demo(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    line = refusal("train.py", "--config", "configs/sod.py", "--workdir", tmp_path / "run")
    for part in ("duts is not prepared in", str(tmp_path / "tfds"), "afiu data prepare duts", ":demo"):
        assert part in line
    assert not (tmp_path / "run").exists()


def test_missing_folder_and_damaged_image_are_named(tmp_path):
    data = ["--config.data.train.name=folder", f"--config.data.train.path={tmp_path}", "--config.data.train.split="]
    command = ("train.py", "--config", "configs/sod.py:demo", "--workdir", tmp_path / "run", *data)
    assert f"no folder {tmp_path}/images" in refusal(*command)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / name / "a.png")
    whole = (tmp_path / "images" / "a.png").read_bytes()
    (tmp_path / "images" / "a.png").write_bytes(whole[: len(whole) // 2])
    assert f"cannot read {tmp_path}/images/a.png" in refusal(*command)


@pytest.mark.slow
def test_two_devices_compute_what_one_does(sod_run, tmp_path, monkeypatch):
    """Each device takes half of every batch; losses, and so statistics and gradients, are those of the whole."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    flags = tiny_flags(train__num_steps=3)
    done = run_command("train.py", "--config", "configs/sod.py:demo", "--workdir", tmp_path / "run", *flags)
    assert done.returncode == 0, done.stderr
    assert "devices: 2 x cpu" in done.stdout
    ours, theirs = ([line["loss"] for line in read_metrics(d) if "loss" in line] for d in (tmp_path / "run", sod_run))
    np.testing.assert_allclose(ours, theirs[:3], rtol=1e-3)


def test_train_prints_devices_parameters_progress_and_where_weights_came_from(sod_run, tmp_path):
    flags = tiny_flags(train__num_steps=2)
    done = run_command(
        "train.py", "--config", "configs/dbd.py:demo", "--init_from", sod_run, "--workdir", tmp_path / "dbd", *flags
    )
    assert done.returncode == 0, done.stderr
    for part in (
        "devices: 1 x cpu",
        "trainable parameters",
        "AIM5",
        "1 = focus",
        f"initial weights: {sod_run}/checkpoints/",
        "absent 0, reshaped 0, unused 0",
        "step 2/2 epoch",
        "images/s",
        "step 2: validation MAE",
    ):
        assert part in " ".join(done.stdout.split()), part


def test_evaluate_prints_scores_and_writes_maps(sod_run, tmp_path):
    done = run_command(
        "-m", "afiu_jax.cli", "evaluate", "--checkpoint", sod_run, "--data", "scenes", "--split", "test[:3]",
        "--maps", tmp_path / "maps", "--json", tmp_path / "scores.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["images"] == 3
    for part in (f"{scores['mae']:.4f}", f"{scores['max_f']:.4f}", "1 = salient", "scenes test[:3]"):
        assert part in done.stdout, part
    maps = sorted((tmp_path / "maps").iterdir())
    assert [p.name for p in maps] == [f"scene-test-{i:05d}.png" for i in range(3)]
    assert np.asarray(Image.open(maps[0])).dtype == np.uint8


def test_predict_writes_a_map_of_every_photo_as_it_is_seen(sod_run, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.full((30, 50, 3), 90, np.uint8)).save(tmp_path / "photos" / "a.PNG")
    turned = Image.new("RGB", (50, 30))
    exif = turned.getexif()
    exif[0x0112] = 6  # the camera was held upright
    turned.save(tmp_path / "b.jpg", exif=exif)
    weights, maps = ("--checkpoint", sod_run), tmp_path / "maps"
    photos = (tmp_path / "photos", tmp_path / "b.jpg")
    done = run_command("-m", "afiu_jax.cli", "predict", *photos, *weights, "-o", maps)
    assert done.returncode == 0, done.stderr
    assert "2 photos: map in" in done.stdout
    assert "white = salient" in done.stdout
    sizes = {p.name: Image.open(p).size for p in maps.iterdir()}
    assert sizes == {"a.png": (50, 30), "b.png": (30, 50)}
    assert "would replace a photo" in refused(run_here("predict", maps, *weights, "-o", maps))
    assert "no file or folder" in refused(run_here("predict", tmp_path / "none.jpg", *weights))


def test_evaluate_refuses_what_is_not_a_run(tmp_path):
    assert "no checkpoint in" in refusal("-m", "afiu_jax.cli", "evaluate", "--checkpoint", tmp_path)


def test_data_commands(tmp_path):
    listed = run_command("-m", "afiu_jax.cli", "data", "list").stdout
    assert {"duts", "cuhk_defocus", "ctcug"} <= {line.split()[0] for line in listed.splitlines()}
    assert "BlurDatasetImage.zip" in run_command("-m", "afiu_jax.cli", "data", "describe", "cuhk_defocus").stdout
    line = refusal("-m", "afiu_jax.cli", "data", "prepare", "ctcug", "--manual-dir", tmp_path, "--data-dir", tmp_path)
    assert "--manual-dir" in line


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        ("KeyboardInterrupt", 130, "interrupted\n"),
        ("UserError('wrong')", 2, "error: wrong\n"),
        ("BrokenPipeError(32, 'Broken pipe')", 1, ""),
    ],
)
def test_a_process_ends_at_once_while_a_compiler_is_at_work(error, status, told):
    program = f"""
import threading, time
from afiu_jax.errors import UNSTOPPABLE, UserError, one_line_errors
threading.Thread(target=time.sleep, args=(60,), name=UNSTOPPABLE).start()
with one_line_errors():
    print("begun")
    raise {error}
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (status, "begun\n", told)


BROKEN = """
from jax._src import xla_bridge
xla_bridge.register_backend_factory("broken", lambda: 1 / 0, priority=500, fail_quietly=False)
"""
"""A platform whose driver does not start, as JAX registers CUDA: it finds that out after it has started the CPU."""

needs_no_gpu = pytest.mark.skipif(any(Path("/dev").glob("nvidia[0-9]*")), reason="there is a GPU")


@pytest.mark.parametrize(
    ("platforms", "before", "why"),
    [
        pytest.param("cuda", "", "JAX_PLATFORMS=cuda names none", marks=needs_no_gpu),
        ("tpus", "", "Unable to initialize backend 'tpus'.*"),
        ("", BROKEN, "Unable to initialize backend 'broken': division by zero.*"),
    ],
)
def test_devices_that_do_not_start_are_said_in_one_line(monkeypatch, platforms, before, why):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    program = "import jax\nfrom afiu_jax.errors import one_line_errors\nwith one_line_errors():\n    jax.devices()"
    done = run_command("-c", before + program)
    assert done.returncode == 2
    assert re.fullmatch(rf"error: no device to compute on \({why}\): see README.*\n", done.stderr)


@pytest.mark.parametrize("error", [RuntimeError("a fault"), AssertionError()])
def test_faults_keep_their_traceback(error):
    with pytest.raises(type(error)), one_line_errors():
        raise error


def test_the_home_folder_is_meant_where_shells_leave_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    done = run_command(
        "-m", "afiu_jax.cli", "data", "check", "--data=scenes", "--split=test[:2]", "--json=~/found.json"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "found.json").exists()
    monkeypatch.setenv("HOME", "/home/me")
    given = ["predict", "~/a b.jpg", "--out=~/maps", "-o", "~", "x~/y", "--save=map,overlay", "--weights", "~/run/"]
    assert [_at_home(argument) for argument in given] == [
        *("predict", "/home/me/a b.jpg", "--out=/home/me/maps", "-o", "~", "x~/y", "--save=map,overlay"),
        *("--weights", "/home/me/run"),
    ]
