"""Whole runs of a tiny network: what they write, resume, transfer, refuse."""

import json
import shutil
import signal
import time

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY_OPTIONS, run_command, tiny_config, tiny_flags
from flax import nnx
from PIL import Image
from pocket import pocket_config

from afiu_jax import create_model
from afiu_jax.errors import UserError
from afiu_jax.evaluation import evaluate
from afiu_jax.inference import Predictor
from afiu_jax.training import loop
from afiu_jax.training.checkpoint import find_checkpoint, load_model
from afiu_jax.training.config import resolve
from afiu_jax.training.logging import read_metrics
from afiu_jax.training.loop import train_and_evaluate
from afiu_jax.workdir import sole_use
from input_pipeline.prepare import prepare
from input_pipeline.records import DataError
from input_pipeline.scenes import Scenes
from input_pipeline.sources import Spec, open_source


def parameters(workdir, step=6):
    saved = load_model(workdir / "checkpoints" / str(step))
    return {**saved.params, **saved.batch_stats}


def assert_same_run(a, b):
    ours, theirs = parameters(a), parameters(b)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert timeless(a) == timeless(b)


def timeless(workdir):
    """The log of a run without its clock."""
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in read_metrics(workdir)]


def folder_of_scenes(root, white, count=6):
    scenes = Scenes(white=white, split="train", size=48)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i in range(count):
        record = scenes[i]
        Image.fromarray(record["image"]).save(root / "images" / f"{i}.png")
        Image.fromarray(record["mask"]).save(root / "masks" / f"{i}.png")
    return root


def test_a_run_writes_what_it_promises(sod_run):
    lines = read_metrics(sod_run)
    training = [line for line in lines if "loss" in line]
    assert [line["step"] for line in training] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(line["loss"]) for line in training)
    assert [line["step"] for line in lines if "val_mae" in line] == [3, 6]
    config = json.loads((sod_run / "config.json").read_text())
    assert config["model"]["options"]["channels"] == 4
    assert list((sod_run / "tensorboard").iterdir())
    kept = {p.name for p in (sod_run / "checkpoints").iterdir()}
    best = min((line["val_mae"], line["step"]) for line in lines if "val_mae" in line)[1]
    assert {"4", "6", str(best)} == kept  # the last two and the best
    assert find_checkpoint(sod_run).name == str(best)


def test_the_checkpoint_holds_items_of_its_own(sod_run):
    step = sod_run / "checkpoints" / "6"
    assert {"model", "optimizer", "data", "meta"} <= {p.name for p in step.iterdir()}
    saved = load_model(step)
    assert saved.config["task"] == {"name": "sod", "positive": "salient"}
    assert saved.scores.keys() == {"mae", "max_f"}
    assert not any("mu" in name or "opt" in name for name in saved.params)


def test_the_decoder_sees_every_level(sod_run):
    """Each kernel of every module has learned: nothing is built and then left out."""
    assert resolve(tiny_config())["train"]["weight_decay"] == 0  # else they would shrink without a gradient
    initial = nnx.to_flat_state(nnx.state(create_model("afiu", rngs=nnx.Rngs(0), **TINY_OPTIONS), nnx.Param))
    learned = load_model(sod_run / "checkpoints" / "6").params
    kernels = {".".join(map(str, path)): value[...] for path, value in initial if path[-1] == "kernel"}
    assert len(kernels) > 100
    assert not [name for name, value in kernels.items() if np.array_equal(value, learned[name])]


def test_logged_loss_is_that_of_the_step(sod_run):
    """The first logged loss equals the loss of the initial weights on the first batch, computed here."""
    config = loop.resolve(tiny_config())
    source = open_source(Spec(**config["data"]["train"]), "salient", seed=0)
    batch = next(loop._train_batches(source, config, 0))
    model = create_model("afiu", rngs=nnx.Rngs(0), **TINY_OPTIONS)
    forward = nnx.jit(lambda model, images: model(images).logits)
    logits = np.asarray(forward(model, jnp.asarray(batch["image"])), np.float64)
    p, y = 1 / (1 + np.exp(-logits)), batch["mask"]
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    assert read_metrics(sod_run)[0]["loss"] == pytest.approx(expected, rel=1e-4)


def test_the_best_checkpoint_survives_resuming(pocket, tmp_path, monkeypatch):
    errors = iter([0.3, 0.1, 0.4, 0.5, 0.6, 0.2])
    monkeypatch.setattr(loop.Validation, "scores", lambda self, *_: {"mae": next(errors), "max_f": 0.5})
    train_and_evaluate(pocket_config(eval__every_steps=1, train__num_steps=3), tmp_path)
    train_and_evaluate(pocket_config(eval__every_steps=1), tmp_path)
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"2", "5", "6"}
    assert find_checkpoint(tmp_path).name == "2"


def test_a_finished_run_is_left_alone(sod_run):
    before = (sod_run / "metrics.jsonl").read_bytes()
    assert train_and_evaluate(tiny_config(), sod_run).scores is None
    assert (sod_run / "metrics.jsonl").read_bytes() == before


def test_signal_saves_and_the_same_command_resumes(pocket, pocket_run, tmp_path, monkeypatch):
    real, before = loop.train_batches, signal.getsignal(signal.SIGTERM)

    def interrupted(*args, **kwargs):
        for i, batch in enumerate(real(*args, **kwargs)):
            if i == 3:
                signal.raise_signal(signal.SIGTERM)
            yield batch

    monkeypatch.setattr(loop, "train_batches", interrupted)
    outcome = train_and_evaluate(pocket_config(), tmp_path / "run")
    assert (outcome.step, outcome.stopped_by) == (4, "SIGTERM")
    monkeypatch.setattr(loop, "train_batches", real)
    assert signal.getsignal(signal.SIGTERM) == before
    train_and_evaluate(pocket_config(), tmp_path / "run")
    assert_same_run(pocket_run, tmp_path / "run")


@pytest.mark.slow
def test_layouts_of_the_compilers_choice_leave_a_resumed_run_as_it_is(sod_run, tmp_path):
    train_and_evaluate(tiny_config(train__num_steps=3), tmp_path / "run")
    train_and_evaluate(tiny_config(train__layouts=True), tmp_path / "run")
    expected, found = parameters(sod_run), parameters(tmp_path / "run")
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
    assert [line["step"] for line in timeless(tmp_path / "run")] == [line["step"] for line in timeless(sod_run)]


@pytest.mark.parametrize("step", [3, 6])
def test_a_signal_during_a_validation_is_answered_at_once(pocket, step, pocket_run, tmp_path, monkeypatch):
    """It comes while data is read for the scores of step 3 or 6; the run that resumes misses nothing."""
    real, opened = loop.Validation._batches, []

    def interrupted(self):
        opened.append(self)
        if len(opened) == 2 * (step // 3) - 1:  # a validation opens the data for scores and for the panel
            signal.raise_signal(signal.SIGTERM)
        yield from real(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Validation, "_batches", interrupted)
        outcome = train_and_evaluate(pocket_config(), tmp_path / "run")
    assert (outcome.step, outcome.scores, outcome.stopped_by) == (step, None, "SIGTERM")
    assert load_model(tmp_path / "run" / "checkpoints" / str(step)).scores is None
    assert train_and_evaluate(pocket_config(), tmp_path / "run").scores
    assert_same_run(pocket_run, tmp_path / "run")


def test_a_clock_that_is_set_back_changes_nothing(pocket, pocket_run, tmp_path, monkeypatch):
    """By a day at every look, as far as a program sees it; the files' own times stay, which nothing here reads."""
    start, looks = time.time(), []

    def earlier():
        looks.append(start)
        return start - 86_400 * len(looks)

    monkeypatch.setattr(time, "time", earlier)
    monkeypatch.setattr(time, "time_ns", lambda: int(earlier() * 1e9))
    train_and_evaluate(pocket_config(train__num_steps=4), tmp_path)
    assert train_and_evaluate(pocket_config(), tmp_path).step == 6
    assert looks
    monkeypatch.undo()
    ours, theirs = parameters(tmp_path), parameters(pocket_run)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert [line["step"] for line in read_metrics(tmp_path) if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert find_checkpoint(tmp_path)


def test_a_second_signal_ends_a_run_at_once(pocket, tmp_path, monkeypatch):
    """As Ctrl-C twice: the handlers are Python's own again, and the checkpoints before it stay whole."""
    real = loop.train_batches

    def interrupted(*args, **kwargs):
        for i, batch in enumerate(real(*args, **kwargs)):
            if i == 3:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
            yield batch

    monkeypatch.setattr(loop, "train_batches", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(pocket_config(), tmp_path)
    assert load_model(tmp_path).step == 3
    monkeypatch.setattr(loop, "train_batches", real)
    train_and_evaluate(pocket_config(), tmp_path)


def test_non_finite_loss_names_step_and_records_and_keeps_the_checkpoint(pocket, tmp_path, monkeypatch):
    real = loop.train_batches

    def poisoned(*args, **kwargs):
        for i, batch in enumerate(real(*args, **kwargs)):
            yield {**batch, "image": batch["image"] * np.nan} if i == 4 else batch

    monkeypatch.setattr(loop, "train_batches", poisoned)
    with pytest.raises(UserError, match=r"the loss of step 5 is nan on records scene-train-\d+, scene-train-\d+; .*4"):
        train_and_evaluate(pocket_config(), tmp_path)
    assert find_checkpoint(tmp_path / "checkpoints" / "4").name == "4"
    assert not (tmp_path / "checkpoints" / "6").exists()
    assert [line["step"] for line in read_metrics(tmp_path)][-1] == 4


def test_refusals_leave_the_run_alone(sod_run, tmp_path):
    def refuses(message, *args, **kwargs):
        with pytest.raises((UserError, DataError), match=message) as caught:
            train_and_evaluate(*args, **kwargs)
        assert "\n" not in str(caught.value)

    before = sorted(p.name for p in sod_run.rglob("*"))
    refuses("holds a run with another configuration .train.learning_rate: 0.001 -> 0.1", tiny_config(
        train__learning_rate=0.1), sod_run)  # fmt: skip
    new = tmp_path / "new"
    refuses("data.image_size is 50: afiu takes .* nearest: 64x64", tiny_config(data__image_size=50), new)
    refuses("no weights .*nowhere", tiny_config(), new, str(tmp_path / "nowhere"))
    refuses("no checkpoint in .*it has no checkpoints", tiny_config(), new, str(tmp_path))
    wide = tiny_config("dbd", model__options__channels=8, model__options__aim_mid_cap=8)
    refuses("fits only .* parameters: its options differ", wide, new, str(sod_run))
    refuses("unknown dataset 'dutz'", tiny_config(data__train__name="dutz"), new)
    refuses("mark salient, the task wants focus: name bokeh", tiny_config(
        "dbd", data__train__name="folder", data__train__split=None,
        data__train__path=str(folder_of_scenes(tmp_path / "data", "salient"))), new)  # fmt: skip
    refuses("model.options do not make a network: an RSU has a height of at least 2", tiny_config(
        model__options__rsu_heights=(1, 2, 2, 2, 2)), new)  # fmt: skip
    with sole_use(sod_run):
        refuses("another run is at work in", tiny_config(), sod_run)
    assert sorted(p.name for p in sod_run.rglob("*")) == before
    assert not new.exists()


def test_one_batch_can_be_learned(sod_run, tmp_path):
    """The loss of two scenes, repeated, falls well below that of the best constant map.

    With the program of ``sod_run``, which need not be compiled again.
    """
    steps = 80
    every = {f"{key}__every_steps": steps for key in ("eval", "checkpoint", "logging")}
    data = {"data__train__split": "train[:2]", "data__vertical_flip": 0.0, "data__color_jitter": 0.0}
    flags = tiny_flags(train__num_steps=steps, **data, **every)
    done = run_command("train.py", "--config", "configs/sod.py:demo", "--workdir", tmp_path / "run", *flags)
    assert done.returncode == 0, done.stderr
    share = np.mean([Scenes("salient", split="train")[i]["mask"] >= 128 for i in range(2)])
    constant = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    losses = [line["loss"] for line in read_metrics(tmp_path / "run") if "loss" in line]
    assert losses[-1] < 0.7 * constant


def test_predictor_maps_have_the_photos_size_and_score(pocket, pocket_run):
    predictor = Predictor(pocket_run, batch_size=4)
    source = open_source(Spec("scenes", split="test[:5]"), predictor.positive)
    found = {}
    scored = evaluate(predictor, source, lambda record, picture: found.update({record["id"]: picture}))
    assert len(found) == 5
    for i in range(5):
        record = source[i]
        picture = found[record["id"]]
        assert (picture.shape, picture.dtype) == (record["mask"].shape, np.uint8)
    errors = [np.abs(found[r["id"]] / 255 - (r["mask"] >= 128)).mean() for r in (source[i] for i in range(5))]
    assert scored.scores["mae"] == pytest.approx(np.mean(errors), abs=1e-12)
    assert [picture["mae"] for picture in scored.pictures] == pytest.approx(errors, abs=1e-12)


def test_a_half_written_checkpoint_is_never_read(sod_run, tmp_path):
    """Neither one whose folder has its final name but not all items, nor one under Orbax's temporary name."""
    copy = tmp_path / "run"
    shutil.copytree(sod_run, copy)
    shutil.copytree(copy / "checkpoints" / "6" / "model", copy / "checkpoints" / "9" / "model")
    shutil.copytree(copy / "checkpoints" / "6", copy / "checkpoints" / "8.orbax-checkpoint-tmp")
    assert find_checkpoint(copy).name == find_checkpoint(sod_run).name


def test_what_is_not_a_checkpoint_of_ours_is_refused(sod_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(sod_run, copy)
    for meta in copy.glob("checkpoints/*/meta/metadata"):
        meta.write_text('{"scores": null, "config": {"model": {}}}')
        (meta.parents[1] / "checksums.json").unlink()
    with pytest.raises(UserError, match="was not written by a version of this program"):
        load_model(copy)
    for text in ("{", "[1]"):
        (copy / "config.json").write_text(text)
        with pytest.raises(UserError, match=r"cannot read .*config.json"):
            train_and_evaluate(tiny_config(), copy)
    (copy / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds a run with another configuration"):
        train_and_evaluate(tiny_config(), copy)


def test_training_on_a_tfds_data_set_and_validating_on_a_folder(pocket, tmp_path):
    folder = folder_of_scenes(tmp_path / "ecssd", "salient")
    prepare_as_ecssd(folder, tmp_path / "tfds")
    config = pocket_config(
        train__num_steps=2,
        data__train__name="ecssd",
        data__train__path=str(tmp_path / "tfds"),
        data__train__split="test",
        data__val__name="folder",
        data__val__path=str(folder),
        data__val__split="[:4]",
    )
    outcome = train_and_evaluate(config, tmp_path / "run")
    assert outcome.step == 2
    assert 0 <= outcome.scores["mae"] <= 1


def prepare_as_ecssd(folder, data_dir):
    """Builds the folder's pairs as if they were ECSSD, in its official layout."""
    (folder / "ground_truth_mask").mkdir()
    for mask in (folder / "masks").iterdir():
        shutil.copy(mask, folder / "ground_truth_mask")
    manual = folder.parent / "manual"
    manual.mkdir()
    for name in ("images", "ground_truth_mask"):
        shutil.copytree(folder / name, manual / name)
    prepare("ecssd", manual, data_dir)


def test_records_and_beginning_of_a_run_may_not_change(sod_run, tmp_path):
    with pytest.raises(UserError, match=r"data.train.split: .*; records: 12 -> 10"):
        train_and_evaluate(tiny_config(data__train__split="train[:10]"), sod_run)
    with pytest.raises(UserError, match=r"init_from: None -> .*elsewhere"):
        train_and_evaluate(tiny_config(), sod_run, str(tmp_path / "elsewhere"))
