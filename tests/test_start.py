"""A run that begins with the weights of another one: which it takes, what it says, what it refuses."""

import numpy as np
import pytest
from conftest import TINY_OPTIONS
from flax import nnx
from pocket import pocket_config

from afiu_jax import create_model
from afiu_jax.errors import UserError
from afiu_jax.training import loop
from afiu_jax.training.checkpoint import load_model
from afiu_jax.training.loop import train_and_evaluate
from afiu_jax.training.saved import transfer


def test_transfer_starts_from_the_other_runs_weights(pocket, pocket_run, tmp_path, monkeypatch):
    """DBD from SOD on bokeh: the first step sees exactly the transferred weights and statistics, and only those."""
    seen = {}
    real = loop.create_state

    def spy(model, optimizer):
        state = real(model, optimizer)
        seen.update({".".join(map(str, p)): np.asarray(v[...]) for p, v in nnx.to_flat_state(nnx.state(model))})
        return state

    monkeypatch.setattr(loop, "create_state", spy)
    config = pocket_config("dbd", train__num_steps=2, data__train__name="bokeh", data__train__source="scenes")
    train_and_evaluate(config, tmp_path / "dbd", str(pocket_run))
    expected = load_model(pocket_run)
    for name, value in {**expected.params, **expected.batch_stats}.items():
        np.testing.assert_array_equal(seen[name], value)
    assert expected.params.keys() | expected.batch_stats.keys() == seen.keys()


def test_a_start_that_marks_the_opposite_is_told(pocket, pocket_run, tmp_path, capsys):
    begin = {"train__num_steps": 2, "eval__every_steps": 2}
    train_and_evaluate(pocket_config("dbd", **begin), tmp_path / "focus", str(pocket_run))
    assert "turned over" not in capsys.readouterr().out  # what salient objects are is no opposite
    other = pocket_config("dbd", task__positive="blur", **begin)
    train_and_evaluate(other, tmp_path / "blur", str(tmp_path / "focus"))
    assert "pass --config.task.positive=focus to go on as it was" in " ".join(capsys.readouterr().out.split())


def test_another_networks_checkpoint_is_refused(untrained):
    model = create_model("afiu", **TINY_OPTIONS)
    with pytest.raises(UserError, match=r"holds the network afiu, not minet: pass --config\.model\.name=afiu"):
        transfer(load_model(untrained), model, "minet")


def test_transfer_reports_what_it_did_not_load(untrained):
    model = create_model("afiu", **{**TINY_OPTIONS, "rsu_heights": (2, 2, 2, 2, 3), "sim_low": 3})
    report = transfer(load_model(untrained), model, "afiu")
    assert report.absent
    assert all(name.startswith("D5.") for name in report.absent)
    assert report.reshaped
    assert all(name.startswith("SIM") for name in report.reshaped)
    assert report.unused == []
    assert report.describe().startswith(f"loaded {len(report.loaded)}, absent {len(report.absent)}: D5.")
