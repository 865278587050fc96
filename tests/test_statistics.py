"""Batch statistics estimated anew: those of all the batches, without a trace in anything else."""

import json
import signal

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from pocket import pocket_config

from afiu_jax.batch_norm import batch_norm
from afiu_jax.dropout import ChannelDropout
from afiu_jax.layers import conv
from afiu_jax.training import loop
from afiu_jax.training.checkpoint import load_model
from afiu_jax.training.logging import read_metrics
from afiu_jax.training.loop import train_and_evaluate
from afiu_jax.training.state import create_state, flatten
from afiu_jax.training.statistics import Statistics


class Two(nnx.Module):
    """Two normalised convolutions; the second normalisation may be frozen."""

    def __init__(self, frozen: bool = False):
        rngs = nnx.Rngs(0)
        self.a, self.b = conv(3, 4, 3, rngs=rngs), conv(4, 5, 1, rngs=rngs)
        self.norm_a, self.norm_b = batch_norm(4, rngs=rngs), batch_norm(5, frozen=frozen, rngs=rngs)

    def __call__(self, x):
        return self.norm_b(self.b(nnx.relu(self.norm_a(self.a(x)))))


def batches(count=4):
    random = np.random.default_rng(0)
    return [jnp.asarray(random.normal(i, 1 + i, (2, 8, 8, 3)), jnp.float32) for i in range(count)]


def estimate(frozen=False):
    state = create_state(Two(frozen), optax.sgd(0.1))
    return state, Statistics(nnx.eval_shape(lambda: Two(frozen)))(state, batches())


def test_statistics_are_those_of_the_union_of_the_batches():
    state, renewed = estimate()
    first = np.concatenate([Two().a(x) for x in batches()]).astype(np.float64)
    found = flatten(renewed.batch_stats)
    np.testing.assert_allclose(found["norm_a.mean"], first.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found["norm_a.var"], first.var((0, 1, 2)), rtol=1e-5)
    # The second sees what the first makes of each batch with that batch's own statistics, as in training.
    model = Two()
    second = []
    for x in batches():
        y = np.asarray(model.a(x), np.float64)
        y = (y - y.mean((0, 1, 2))) / np.sqrt(y.var((0, 1, 2)) + 1e-5)
        second.append(model.b(jnp.asarray(y.clip(0), jnp.float32)))
    second = np.concatenate(second).astype(np.float64)
    np.testing.assert_allclose(found["norm_b.mean"], second.mean((0, 1, 2)), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found["norm_b.var"], second.var((0, 1, 2)), rtol=1e-3)
    assert flatten(state.params).keys() == flatten(renewed.params).keys()


def test_dropout_averages_out_over_the_batches():
    class Dropping(nnx.Module):
        def __init__(self):
            self.dropout, self.norm = ChannelDropout(0.5), batch_norm(4, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.norm(self.dropout(jnp.repeat(x.mean(-1, keepdims=True), 4, axis=-1)))

    state, ones = create_state(Dropping(), optax.sgd(0.1)), jnp.ones((2, 2, 2, 3))
    renewed = Statistics(nnx.eval_shape(Dropping))(state, [ones] * 200)
    np.testing.assert_allclose(flatten(renewed.batch_stats)["norm.mean"], 1, atol=0.25)  # 3.5 standard deviations


def test_frozen_statistics_stay():
    state, renewed = estimate(frozen=True)
    before, after = flatten(state.batch_stats), flatten(renewed.batch_stats)
    assert not np.array_equal(before["norm_a.mean"], after["norm_a.mean"])
    for leaf in ("mean", "var"):
        np.testing.assert_array_equal(before[f"norm_b.{leaf}"], after[f"norm_b.{leaf}"])


def test_a_run_with_statistics_trains_the_same_weights_and_resumes_exactly(pocket, pocket_run, tmp_path, monkeypatch):
    """Also one that is stopped while they are estimated, at step 3: it estimates them when it goes on."""
    real, opened = loop._train_batches, []

    def interrupted(*args):
        opened.append(args)
        if len(opened) == 2:  # the first is training's own
            signal.raise_signal(signal.SIGTERM)
        yield from real(*args)

    train_and_evaluate(pocket_config(train__statistics_batches=3), tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_train_batches", interrupted)
        stopped = train_and_evaluate(pocket_config(train__statistics_batches=3), tmp_path / "parts")
    assert (stopped.step, stopped.scores, stopped.stopped_by) == (3, None, "SIGTERM")
    train_and_evaluate(pocket_config(train__statistics_batches=3), tmp_path / "parts")
    plain, whole, parts = (
        load_model(w / "checkpoints" / "6") for w in (pocket_run, tmp_path / "whole", tmp_path / "parts")
    )
    assert json.loads((tmp_path / "whole/config.json").read_text())["train"]["statistics_batches"] == 3
    for name, value in whole.params.items():
        np.testing.assert_array_equal(value, plain.params[name])
        np.testing.assert_array_equal(value, parts.params[name])
    for name, value in whole.batch_stats.items():
        np.testing.assert_array_equal(value, parts.batch_stats[name])
    assert any((value != plain.batch_stats[name]).any() for name, value in whole.batch_stats.items())
    assert whole.scores != plain.scores
    losses = lambda w: [line["loss"] for line in read_metrics(w) if "loss" in line]  # noqa: E731
    assert losses(tmp_path / "whole") == losses(pocket_run)


class Prepared(Two):
    """Fixed arrays that are called as a normalisation's statistics are."""

    def __init__(self, frozen: bool = False):
        super().__init__(frozen)
        self.images = nnx.data({"mean": nnx.BatchStat(jnp.ones(3)), "std": nnx.BatchStat(jnp.full(3, 2.0))})

    def __call__(self, x):
        return super().__call__((x - self.images["mean"]) / self.images["std"])


def test_fixed_arrays_called_mean_stay_as_they_are():
    state = create_state(Prepared(), optax.sgd(0.1))
    found = flatten(Statistics(nnx.eval_shape(Prepared))(state, batches()).batch_stats)
    first = np.concatenate([Two().a((x - 1) / 2) for x in batches()]).astype(np.float64)
    np.testing.assert_allclose(found["norm_a.mean"], first.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_array_equal(found["images.mean"], np.ones(3))


class Sharing(Two):
    """Two normalisations with the same running statistics, which the state has once."""

    def __init__(self, frozen: bool = False):
        super().__init__(frozen)
        self.z, self.twin = conv(5, 4, 1, rngs=nnx.Rngs(1)), batch_norm(4, rngs=nnx.Rngs(0))
        self.twin.mean, self.twin.var = self.norm_a.mean, self.norm_a.var

    def __call__(self, x):
        return self.twin(self.z(super().__call__(x)))


def test_statistics_that_two_normalisations_share_are_estimated():
    state = create_state(Sharing(), optax.sgd(0.1))
    found = flatten(Statistics(nnx.eval_shape(Sharing))(state, batches()).batch_stats)
    assert set(found) == {f"{norm}.{leaf}" for norm in ("norm_a", "norm_b") for leaf in ("mean", "var")}
    assert all(
        np.isfinite(value).all() and (value != flatten(state.batch_stats)[name]).all() for name, value in found.items()
    )
