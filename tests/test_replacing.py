"""Checkpoints that replace others, vanish, or cannot be written: what else was there stays in use."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from faults import empty
from flax import nnx

from afiu_jax.errors import UserError
from afiu_jax.layers import conv
from afiu_jax.study.cells import is_trained
from afiu_jax.training.checkpoint import (
    Checkpoints,
    find_checkpoint,
    has_checkpoints,
    has_scores,
    load_model,
    whole_steps,
)
from afiu_jax.training.full_disk import naming_full_disk
from afiu_jax.training.logging import MetricsLog, read_metrics
from afiu_jax.training.state import create_state

CONFIG = {"task": {}, "model": {}, "data": {}}


def state_of(step, value):
    """A state whose one kernel holds ``value``."""
    model = conv(1, 1, 1, rngs=nnx.Rngs(0))
    model.kernel[...] = jnp.full_like(model.kernel[...], value)
    return create_state(model, optax.adam(0.1)).replace(step=jnp.asarray(step))


def opened(workdir, keep_last=1):
    return Checkpoints(workdir, keep_last, hold=None)


@pytest.fixture
def stopped(tmp_path):
    """Work directory of a run that a signal stopped in the validation of step 8, as good as all that it has."""
    with opened(tmp_path) as checkpoints:
        checkpoints.save(state_of(8, 1.0), CONFIG, None)
    return tmp_path


def value_of(workdir, step):
    return float(load_model(workdir / "checkpoints" / str(step)).params["kernel"].item())


def test_scores_come_with_their_weights(stopped):
    assert not has_scores(stopped, 8)
    with opened(stopped) as checkpoints:
        checkpoints.save(state_of(8, 2.0), CONFIG, {"mae": 0.5})
    assert has_scores(stopped, 8)
    assert (value_of(stopped, 8), whole_steps(stopped)) == (2.0, [8])
    assert not (stopped / "replaced").exists()


@pytest.mark.parametrize("moment", ["before the new one is begun", "before the new one is whole", "after that"])
def test_a_process_that_dies_while_it_replaces_leaves_one_of_the_two(stopped, moment):
    """What is on disk then, since no process can be killed at a certain instruction: the next one finds step 8."""
    old = stopped / "checkpoints" / "8"
    (stopped / "replaced").mkdir()
    if moment == "after that":
        with opened(stopped) as checkpoints:
            shutil.copytree(old, stopped / "copy")
            checkpoints.save(state_of(8, 2.0), CONFIG, {"mae": 0.5})
        (stopped / "replaced").mkdir()
        (stopped / "copy").rename(stopped / "replaced" / "8")
    else:
        old.rename(stopped / "replaced" / "8")
    assert has_checkpoints(stopped)
    if moment == "before the new one is whole":
        (stopped / "checkpoints" / "8.orbax-checkpoint-tmp" / "model").mkdir(parents=True)
    with opened(stopped) as checkpoints:
        assert checkpoints.latest_step == 8
        _, position, damaged = checkpoints.restore(state_of(0, 0.0))
        assert (position, damaged) == (8, [])
    assert value_of(stopped, 8) == (2.0 if moment == "after that" else 1.0)
    assert not (stopped / "replaced").exists()


def test_a_study_takes_a_run_for_trained_only_with_its_last_scores(stopped):
    (stopped / "config.json").write_text('{"train": {"num_steps": 8}}')
    assert not is_trained(stopped)
    with opened(stopped) as checkpoints:
        checkpoints.save(state_of(8, 2.0), CONFIG, {"mae": 0.5})
    assert is_trained(stopped)
    empty(stopped / "checkpoints" / "8" / "meta" / "metadata")
    assert not is_trained(stopped)


def test_while_one_is_replaced_the_old_one_is_there(stopped, monkeypatch):
    """The new one cannot even be begun: its writing fails at once."""

    def fails(*_, **__):
        raise OSError("the disk is gone")

    with opened(stopped) as checkpoints:
        monkeypatch.setattr(checkpoints._manager, "save", fails)
        with pytest.raises(OSError, match="the disk is gone"):
            checkpoints.save(state_of(8, 2.0), CONFIG, {"mae": 0.5})
    assert value_of(stopped, 8) == 1.0
    assert whole_steps(stopped) == [8]
    assert not (stopped / "replaced").exists()


def test_a_failed_write_is_told_as_what_it_was(tmp_path, monkeypatch):
    """Orbax, which writes in threads, raises it once, and the checkpoint that was begun is not there."""
    errors = [OSError(5, "Input/output error")]

    def fails():
        if errors:
            raise errors.pop()

    with pytest.raises(OSError, match="Input/output error"), opened(tmp_path) as checkpoints:
        monkeypatch.setattr(checkpoints._manager, "save", lambda *_, **__: True)
        checkpoints.save(state_of(1, 1.0), CONFIG, None)
        monkeypatch.setattr(checkpoints._manager, "wait_until_finished", fails)
        checkpoints.wait()
    assert not errors


def test_a_full_quota_is_told_like_a_full_disk(tmp_path):
    with pytest.raises(UserError, match="no space left on the disk"), naming_full_disk(tmp_path):
        raise ValueError("INTERNAL: Error writing: Disk quota exceeded")


def test_a_checkpoint_that_is_being_deleted_is_passed_over(tmp_path):
    """By its run, file by file, while others look: the best and the last are whole."""
    with opened(tmp_path, keep_last=3) as checkpoints:
        for step, mae in ((1, 0.9), (2, 0.1), (3, 0.5)):
            checkpoints.save(state_of(step, step), CONFIG, {"mae": mae})
    for file in (tmp_path / "checkpoints" / "1").rglob("*"):
        if file.is_file():
            file.unlink()
    assert find_checkpoint(tmp_path).name == "2"
    assert whole_steps(tmp_path) == [2, 3]


def test_scores_of_a_validation_that_is_done_again_stand_once(tmp_path):
    lines = [{"step": 4, "val_mae": 0.5}, {"step": 8, "loss": 0.1}, {"step": 8, "part": "val"}]
    lines += [{"step": 8, "val_mae": 0.4}, {"step": 9}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    MetricsLog(tmp_path, 8, tensorboard=False, unvalidated=True).close()
    assert read_metrics(tmp_path) == lines[:2]


def test_tensorboard_has_what_the_log_has_while_a_run_goes(tmp_path):
    log = MetricsLog(tmp_path, 0, tensorboard=True)
    (events,) = (tmp_path / "tensorboard").iterdir()
    for step in (1, 2):
        before = events.stat().st_size
        log.scalars(step, loss=0.5)
        assert events.stat().st_size > before
    before = events.stat().st_size
    log.panel(2, np.zeros((8, 8, 3), np.uint8))
    assert events.stat().st_size > before
    log.close()
