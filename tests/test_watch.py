"""Steps and records that a run leaves out, when it is told to go on."""

import io
import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from pocket import pocket_config
from rich.console import Console
from test_training import folder_of_scenes, parameters

from afiu_jax.errors import UserError
from afiu_jax.networks import Prediction
from afiu_jax.training import loop, watch
from afiu_jax.training.checkpoint import Checkpoints
from afiu_jax.training.logging import MetricsLog, read_metrics
from afiu_jax.training.loop import train_and_evaluate
from afiu_jax.training.state import create_state, flatten, graph_of
from afiu_jax.training.step import Report, make_train_step
from afiu_jax.training.watch import Watch


class Toy(nnx.Module):
    def __init__(self):
        self.scale = nnx.Param(jnp.ones(()))
        self.seen = nnx.BatchStat(jnp.zeros(()))

    def __call__(self, image):
        self.seen[...] = image.mean()
        return Prediction(image[..., :1] * self.scale[...], ())


def mean_loss(prediction, masks):
    return prediction.logits.mean()


def loss_with_a_steep_gradient(prediction, masks):
    return jnp.sqrt(prediction.logits.mean() - 1) + masks.mean()  # at 1: finite, with an infinite slope


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize(("loss", "value"), [(mean_loss, np.nan), (mean_loss, np.inf), (loss_with_a_steep_gradient, 1)])
def test_a_step_that_is_not_finite_changes_nothing_but_its_number(loss, value, skip):
    model, optimizer = Toy(), optax.adam(0.1)
    train_step = make_train_step(graph_of(model, training=True), loss, optimizer, skip_nonfinite=skip)
    masks = np.zeros((1, 2, 2, 1), np.float32)
    state, report = train_step(create_state(model, optimizer), np.full((1, 2, 2, 3), 2, np.float32), masks)
    assert np.isfinite(report.gradient_norm)
    before = {name: np.asarray(leaf) for name, leaf in arrays(state).items()}
    poisoned = np.full((1, 2, 2, 3), value / before["params.scale"], np.float32)
    state, report = train_step(state, poisoned, masks)
    assert not (np.isfinite(report.loss) and np.isfinite(report.gradient_norm))
    assert state.step == 2
    same = [np.array_equal(before[name], leaf) for name, leaf in arrays(state).items()]
    assert all(same) == skip
    state, _ = train_step(state, np.full((1, 2, 2, 3), 2, np.float32), masks)
    assert np.isfinite(state.params["scale"][...]) == skip


def arrays(state):
    named = {"params": state.params, "batch_stats": state.batch_stats, "opt_state": state.opt_state}
    return {f"{part}.{name}": leaf for part, tree in named.items() for name, leaf in flatten(tree).items()}


def watcher(tmp_path, nonfinite):
    class Kept(Checkpoints):
        latest_step = 3

        def __init__(self):
            pass

    said, log = io.StringIO(), MetricsLog(tmp_path, 0, tensorboard=False)
    return Watch({"train": {"nonfinite": nonfinite}}, Kept(), log, Console(file=said, width=500)), said


def report(loss=1.0, norm=1.0):
    return Report(jnp.float32(loss), jnp.float32(norm))


def test_a_gradient_that_is_not_finite_stops_the_run_too(tmp_path):
    look, _ = watcher(tmp_path, "stop")
    assert look.finite(3, report(), ["a"])
    with pytest.raises(UserError, match=r"the gradient of step 4 is inf on records a, b; the checkpoint of step 3"):
        look.finite(4, report(norm=np.inf), ["a", "b"])


def test_steps_are_noted_once_and_too_many_in_a_row_stop_the_run(tmp_path):
    look, said = watcher(tmp_path, "skip")
    for _ in range(2):
        assert not look.finite(1, report(loss=np.nan), ["a"])
    assert read_metrics(tmp_path) == [{"step": 1, "nonfinite": "loss", "records": ["a"]}]
    assert said.getvalue().count("the loss of step 1 is nan on records a") == 1
    assert look.finite(2, report(), ["a"])
    for step in range(3, 2 + watch.MOST_IN_A_ROW):
        assert not look.finite(step, report(norm=np.inf), ["b"])
    with pytest.raises(UserError, match=f"as of the {watch.MOST_IN_A_ROW - 1} steps before; the checkpoint of step 3"):
        look.finite(2 + watch.MOST_IN_A_ROW, report(norm=np.inf), ["b"])


def test_a_reason_is_said_once_and_logged_every_time(tmp_path):
    look, said = watcher(tmp_path, "stop")
    for step in (1, 2):
        look.missing(step, "train", ["x is broken"])
        look.missing(step, "train", [])
    assert said.getvalue().count("x is broken") == 1
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]


def test_a_run_goes_on_without_what_is_broken_and_is_the_same_when_interrupted(pocket, tmp_path, monkeypatch):
    """A photo without a mask, one that breaks off in its middle, and a step of NaN."""
    data = folder_of_scenes(tmp_path / "data", "salient")
    (data / "masks" / "1.png").unlink()
    photo = bytearray((data / "images" / "3.png").read_bytes())
    photo[len(photo) // 2] ^= 0xFF  # the end is there, so that it shows only on decoding
    (data / "images" / "3.png").write_bytes(photo)
    real = loop.train_batches

    def poisoned(*args, start_step, **kwargs):
        for step, batch in enumerate(real(*args, start_step=start_step, **kwargs), start_step + 1):
            yield {**batch, "image": batch["image"] * np.nan} if step == 5 else batch

    monkeypatch.setattr(loop, "train_batches", poisoned)
    folder = {
        f"data__{part}__{key}": value
        for part in ("train", "val")
        for key, value in (("name", "folder"), ("path", str(data)), ("split", None))
    }
    skip = {**folder, "data__on_error": "skip", "train__nonfinite": "skip"}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_and_evaluate(pocket_config(**skip), whole).step == 6
    for steps in (4, 6):
        train_and_evaluate(pocket_config(train__num_steps=steps, **skip), parts)
    (poisoned_step,) = (line for line in read_metrics(whole) if "nonfinite" in line)
    assert (poisoned_step["step"], len(poisoned_step["records"])) == (5, 2)
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["nonfinite_steps"] == [5]
    assert list(summary["left_out"]["train"]) == [str(data / "images" / "1.png")]
    skipped = summary["skipped_records"]
    (reason,) = skipped["train"]
    assert str(data / "images" / "3.png") in reason
    assert skipped["val"] == {reason: 2}  # two validations
    assert 2 <= skipped["train"][reason] <= 4  # 12 records of 5, each once an epoch
    assert_same_run_but_for_validation(whole, parts)
    with pytest.raises(ValueError, match="1 images without a mask: 1;"):
        train_and_evaluate(pocket_config(**folder), tmp_path / "stops")


def assert_same_run_but_for_validation(a, b):
    """The second was validated once more, where it was stopped."""
    lines = {run: [line for line in read_metrics(run) if "val_mae" not in line] for run in (a, b)}
    for line in (*lines[a], *lines[b]):
        line.pop("images_per_second", None)
    training = {run: [line for line in found if line.get("part") != "val"] for run, found in lines.items()}
    assert training[a] == training[b]
    ours, theirs = parameters(a), parameters(b)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
