"""Strategies of fine-tuning: what is frozen stays, levels move at their rates, L²-SP pulls as it should."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import tiny_config
from flax import nnx
from pocket import pocket_config

from afiu_jax.errors import UserError
from afiu_jax.networks import NETWORKS, abstract_model
from afiu_jax.networks.encoders import ENCODERS, encoder_level
from afiu_jax.training.checkpoint import load_model
from afiu_jax.training.config import differences, resolve
from afiu_jax.training.finetuning import l2_sp, slow_encoder
from afiu_jax.training.loop import train_and_evaluate
from afiu_jax.training.optimizer import create_optimizer


@cache
def modules_of(network: str) -> frozenset[str]:
    """Names of the modules of a network that have parameters."""
    model = abstract_model(network)
    return frozenset(path[0] for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param)))


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_says_what_its_encoder_is(network):
    """Every level has parameters, no module is of two levels, and something is left to train."""
    levels = [encoder_level(network, module) for module in modules_of(network)]
    assert {level for level in levels if level is not None} == set(range(len(ENCODERS[network])))
    assert None in levels


@pytest.mark.parametrize("levels", [("stem", "norm"), ("stem",)], ids=str)
def test_a_frozen_encoder_stays_bit_for_bit_and_the_decoder_learns(pocket, pocket_run, tmp_path, levels, monkeypatch):
    """Its weights and statistics; with weight decay, which must not move them either."""
    monkeypatch.setitem(ENCODERS, "pocket", levels)
    config = pocket_config(
        "dbd", train__freeze="encoder", train__num_steps=3, train__weight_decay=0.1, train__statistics_batches=2
    )
    train_and_evaluate(config, tmp_path / "run", str(pocket_run))
    before, after = load_model(pocket_run), load_model(tmp_path / "run" / "checkpoints" / "3")
    for old, new in ((before.params, after.params), (before.batch_stats, after.batch_stats)):
        same = {name: np.array_equal(old[name], new[name]) for name in new}
        encoder = {name for name in new if name.startswith(levels)}
        assert all(same[name] for name in encoder)
        assert not any(same[name] for name in new.keys() - encoder if "bias" not in name)


def test_levels_move_at_their_rates():
    """The rates of AFIU's six levels at decay 0.5, by hand, on top of Adam's first step, whose size is the rate."""
    params = {name: {"kernel": jnp.ones(3)} for name in ("E1", "E5", "AIM3", "SIM2", "fusion1", "D1", "head")}
    config = resolve(tiny_config(train__learning_rate=0.1, train__layerwise_decay=0.5))
    optimizer = create_optimizer(config)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    rates = {name: -float(update["kernel"][0]) for name, update in updates.items()}
    powers = {"E1": 6, "E5": 2, "AIM3": 1, "SIM2": 1, "fusion1": 1, "D1": 0, "head": 0}
    assert rates == pytest.approx({name: 0.1 * 0.5**power for name, power in powers.items()}, rel=1e-5)


def test_every_networks_levels_slow_down_towards_the_image():
    for network, levels in ENCODERS.items():
        params = {name: jnp.ones(()) for name in modules_of(network)}
        slowed, _ = slow_encoder(network, 0.9).update(params, optax.EmptyState())
        assert min(slowed.values()) == pytest.approx(0.9 ** len(levels))
        assert max(slowed.values()) == 1


def test_l2_sp_adds_the_gradient_of_its_penalty():
    strength, start = 0.3, {"w": jnp.array([1.0, -2.0]), "b": jnp.array([0.5])}
    now = {"w": jnp.array([1.5, -1.0]), "b": jnp.array([0.0])}

    def penalty(params):
        return strength / 2 * sum(jnp.sum((params[name] - start[name]) ** 2) for name in params)

    transform = l2_sp(strength)
    zeros = jax.tree.map(jnp.zeros_like, now)
    updates, _ = transform.update(zeros, transform.init(start), now)
    expected = jax.grad(penalty)(now)
    for name in now:
        np.testing.assert_allclose(updates[name], expected[name], rtol=1e-6)
    np.testing.assert_allclose(updates["w"], 0.3 * np.array([0.5, 1.0]), rtol=1e-6)


def test_l2_sp_keeps_a_run_near_its_start_and_resumes_with_it(pocket, pocket_run, tmp_path):
    """The start is the transferred network, also after a stop; a strong pull holds the weights closer than none."""

    def moved(name, **overrides):
        config = pocket_config("dbd", **overrides)
        train_and_evaluate(config, tmp_path / name, str(pocket_run))
        old, new = load_model(pocket_run).params, load_model(tmp_path / name / "checkpoints" / "4").params
        return new, sum(float(np.square(new[key] - old[key]).sum()) for key in old)

    train_and_evaluate(pocket_config("dbd", train__l2sp=1e4, train__num_steps=2), tmp_path / "stopped", str(pocket_run))
    resumed, near = moved("stopped", train__l2sp=1e4, train__num_steps=4)
    whole, _ = moved("whole", train__l2sp=1e4, train__num_steps=4)
    _, far = moved("free", train__num_steps=4)
    assert near < 0.5 * far
    for name, value in whole.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)


def test_wrong_options_are_refused_and_older_runs_resume():
    for key, value, message in (
        ("train__freeze", "decoder", "train.freeze is 'decoder'; it is one of"),
        ("train__layerwise_decay", 1.5, r"train.layerwise_decay is 1.5; it must lie in 0…1"),
        ("train__l2sp", -1.0, "train.l2sp is -1.0; it must be a number that is not negative"),
    ):
        with pytest.raises(UserError, match=message):
            resolve(tiny_config(**{key: value}))
    new = resolve(tiny_config())
    old = {**new, "train": {k: v for k, v in new["train"].items() if k not in ("freeze", "layerwise_decay", "l2sp")}}
    assert differences(old, new) == []
    frozen = resolve(tiny_config(train__freeze="encoder"))
    assert differences(old, frozen) == ["train.freeze:  -> encoder"]
