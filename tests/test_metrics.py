"""Scores and losses against plain NumPy loops over thresholds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afiu_jax.losses import LOSSES, binary_cross_entropy
from afiu_jax.metrics import SaliencyScores, f_measure
from afiu_jax.networks import Prediction

from_maps = jax.jit(SaliencyScores.from_maps)


def pictures(seed: int, count: int = 3, side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    masks = (random.random((count, side, side, 1)) > random.random()).astype(np.float32)
    maps = np.clip(masks * 0.4 + random.random(masks.shape) * 0.6, 0, 1).astype(np.float32)
    return maps, masks


def by_hand(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """MAE and max F, one threshold and one image at a time."""
    maps = np.round(maps.astype(np.float64) * 255)
    precision, recall = np.zeros(256), np.zeros(256)
    for found, mask in zip(maps, masks > 0, strict=True):
        for t in range(256):
            positive = found >= t
            hits = (positive & mask).sum()
            precision[t] += hits / max(positive.sum(), 1) / len(maps)
            recall[t] += hits / max(mask.sum(), 1) / len(maps)
    with np.errstate(invalid="ignore"):
        f = np.nan_to_num(1.3 * precision * recall / (0.3 * precision + recall))
    return {"mae": np.abs(maps / 255 - masks).mean(), "max_f": f.max()}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_scores_equal_a_loop_over_thresholds(seed):
    maps, masks = pictures(seed)
    scores = from_maps(jnp.asarray(maps), jnp.asarray(masks)).compute()
    expected = by_hand(maps, masks)
    assert scores["mae"] == pytest.approx(expected["mae"], abs=1e-6)
    assert scores["max_f"] == pytest.approx(expected["max_f"], abs=1e-5)


def test_merging_batches_equals_one_batch_and_padding_does_not_count():
    maps, masks = map(jnp.asarray, pictures(1, count=5))
    whole = from_maps(maps, masks).compute()
    merged = SaliencyScores.empty().merge(from_maps(maps[:4], masks[:4]))
    padded = jnp.concatenate([maps[4:], jnp.ones_like(maps[:3])])
    nothing = jnp.concatenate([masks[4:], jnp.zeros_like(masks[:3])])
    merged = merged.merge(from_maps(padded, nothing, jnp.asarray([1.0, 0, 0, 0])))
    for name, value in whole.items():
        assert merged.compute()[name] == pytest.approx(float(value), abs=1e-6)


def test_padded_pixels_do_not_count():
    maps, masks = pictures(2)
    expected = from_maps(jnp.asarray(maps), jnp.asarray(masks)).compute()
    around = ((0, 0), (0, 3), (0, 5), (0, 0))
    wide = (np.pad(a, around, constant_values=v) for a, v in ((maps, 1), (masks, 0), (np.ones_like(maps), 0)))
    maps, masks, valid = map(jnp.asarray, wide)
    scores = from_maps(maps, masks, None, valid).compute()
    for name, value in expected.items():
        assert scores[name] == pytest.approx(float(value), abs=1e-6)


def test_extremes():
    _, masks = map(jnp.asarray, pictures(3))
    perfect = from_maps(masks, masks).compute()
    assert perfect["mae"] == pytest.approx(0, abs=1e-6)
    assert perfect["max_f"] == pytest.approx(1, abs=1e-6)
    wrong = from_maps(1 - masks, masks).compute()
    assert wrong["mae"] == pytest.approx(1, abs=1e-6)
    share = float(masks[:1].mean())
    everything = from_maps(jnp.ones_like(masks[:1]), masks[:1]).compute()
    assert everything["max_f"] == pytest.approx(1.3 * share / (0.3 * share + 1), abs=1e-6)
    empty = from_maps(jnp.zeros_like(masks), jnp.zeros_like(masks)).compute()
    assert (empty["mae"], empty["max_f"]) == (0, 0)


def test_f_measure_weighs_precision():
    assert f_measure(jnp.asarray(0.9), jnp.asarray(0.3)) > f_measure(jnp.asarray(0.3), jnp.asarray(0.9))
    assert f_measure(jnp.zeros(()), jnp.zeros(())) == 0


def test_cross_entropy_is_the_papers_equation_averaged():
    random = np.random.default_rng(0)
    logits, mask = random.standard_normal((2, 4, 4, 1)) * 3, (random.random((2, 4, 4, 1)) > 0.5) * 1.0
    p = 1 / (1 + np.exp(-logits))
    expected = -(mask * np.log(p) + (1 - mask) * np.log(1 - p)).mean()
    logits, mask = jnp.asarray(logits, jnp.float32), jnp.asarray(mask, jnp.float32)
    assert binary_cross_entropy(logits, mask) == pytest.approx(expected, rel=1e-5)
    assert LOSSES["bce"](Prediction(logits), mask) == pytest.approx(expected, rel=1e-5)
    certain = jnp.full((1, 2, 2, 1), 200.0)
    assert jnp.isfinite(binary_cross_entropy(certain, jnp.zeros((1, 2, 2, 1))))


def test_loss_resizes_logits_to_the_mask():
    mask = jnp.ones((1, 8, 8, 1))
    small = LOSSES["bce"](Prediction(jnp.full((1, 4, 4, 1), 2.0)), mask)
    assert small == pytest.approx(np.log1p(np.exp(-2)), rel=1e-5)
