"""What every score promises: hand-made values, ranges, identities, edge cases, and that padding has no say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from afiu_jax.metrics import Scores, image, score_images
from afiu_jax.metrics.counts import level_values
from afiu_jax.metrics.image import CURVES
from afiu_jax.metrics.weighted import Surroundings, surroundings

SIDE = 12
BATCH = 4
MAY_EXCEED_ONE = SIDE**2 / (SIDE**2 - 1)  # the E-measure is divided by one pixel less, as its authors do


def pictures(seed: int, count: int = BATCH) -> tuple[np.ndarray, np.ndarray]:
    """Maps that resemble their masks more or less, 0…255, and masks with blobs."""
    random = np.random.default_rng(seed)
    coarse = random.random((count, 4, 4)) > random.uniform(0.2, 0.8)
    masks = coarse.repeat(3, 1).repeat(3, 2)
    noise, amount = random.random(masks.shape), random.random()
    maps = np.rint(255 * (amount * masks + (1 - amount) * noise)).astype(np.uint8)
    return maps, masks


def score(maps, masks, *, pad: tuple[int, int] = (0, 0), fill: int = 0, normalize: bool = False) -> dict:
    """Scores of each image, optionally padded with ``fill`` and true mask pixels."""
    before = [(0, 0), (0, pad[0]), (0, pad[1])]
    valid = np.pad(np.ones(masks.shape, bool), before)
    around = map(np.stack, zip(*map(surroundings, maps, masks), strict=True))
    around = Surroundings(*(np.pad(part, before, constant_values=fill) for part in around))
    values = np.stack([level_values(int(m.min()), int(m.max()), 256, normalize=normalize) for m in maps])
    maps, masks = np.pad(maps, before, constant_values=fill), np.pad(masks, before, constant_values=fill > 0)
    return {k: np.asarray(v) for k, v in score_images(maps, masks, valid, values, around).items()}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0005, 0.9))
def test_surroundings_are_those_of_scipys_transform(seed, share):
    """Ties too: PySODMetrics takes the level at the very pixel that SciPy names."""
    random = np.random.default_rng(seed)
    mask = random.random((40, 330)) < share
    mask[random.integers(40), random.integers(330)] = True
    levels = random.integers(0, 256, mask.shape, np.uint8)
    distance, (rows, columns) = distance_transform_edt(~mask, return_indices=True)
    found = surroundings(levels, mask)
    np.testing.assert_array_equal(found.squared_distance, np.minimum(np.rint(distance**2), 65535))
    near = (distance > 0) & (distance <= 3 * 2**0.5)
    np.testing.assert_array_equal(found.nearest_level[near], levels[rows, columns][near])
    assert not found.nearest_level[~near].any()
    by_columns = surroundings(np.asfortranarray(levels), np.asfortranarray(mask))  # as MATLAB's files are read
    for ours, theirs in zip(by_columns, found, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def data_set(*batches: dict) -> dict[str, float]:
    total = Scores.empty()
    for batch in batches:
        total = total.merge(Scores.single_from_model_output(**batch))
    return {name: float(value) for name, value in total.compute().items()}


def test_a_map_of_four_pixels_by_hand():
    maps, masks = np.uint8([[[255, 102], [51, 0]]]), np.array([[[True, False], [True, False]]])
    scores = score(maps, masks)
    assert scores["mae"][0] == pytest.approx((0 + 0.4 + 0.8 + 0) / 4, abs=1e-12)
    for threshold, precision, recall in ((0, 2 / 4, 1), (51, 2 / 3, 1), (52, 1 / 2, 1 / 2), (103, 1, 1 / 2)):
        assert scores["precision"][0, threshold] == pytest.approx(precision, abs=1e-12)
        assert scores["recall"][0, threshold] == pytest.approx(recall, abs=1e-12)
    # Twice the mean of 0.4 is 0.8; above 0.5 lies the first pixel alone.
    half = 1.3 * 1 * 0.5 / (0.3 * 1 + 0.5)
    assert scores["adaptive_f"][0] == pytest.approx(half, abs=1e-12)
    assert scores["f_at_half"][0] == pytest.approx(half, abs=1e-12)
    assert scores["iou"][0] == 1 / 2
    assert scores["accuracy"][0] == 3 / 4
    assert data_set(scores)["max_f"] == pytest.approx(half, abs=1e-12)


def test_max_f_averages_precision_and_recall_before_f():
    """Two images whose best thresholds differ: F of the averages is not the average of F, nor F of a pool of pixels."""
    maps = np.uint8([[[200, 0], [0, 0]], [[90, 90], [90, 190]]])
    masks = np.array([[[True, False], [False, False]], [[True, True], [True, False]]])
    scores = data_set(score(maps, masks))
    # Averaged over the two images, from threshold 0 on: precision and recall of 0…0, 1…90, 91…190, 191…200.
    averages = (((1 / 4 + 3 / 4) / 2, 1), ((1 + 3 / 4) / 2, 1), ((1 + 0) / 2, 1 / 2), ((1 + 0) / 2, 1 / 2))
    best = max(1.3 * p * r / (0.3 * p + r) for p, r in averages)
    assert scores["max_f"] == pytest.approx(best, abs=1e-12)
    mean_curve = (1 + 1.3 * 3 / 4 / (0.3 * 3 / 4 + 1)) / 2
    assert scores["max_f_mean_curve"] == pytest.approx(mean_curve, abs=1e-12)
    pooled = 1.3 * (4 / 5) / (0.3 * 4 / 5 + 1)
    assert min(abs(best - mean_curve), abs(best - pooled)) > 1e-3


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_every_score_is_in_its_range(seed, normalize):
    for name, values in score(*pictures(seed), normalize=normalize).items():
        highest = MAY_EXCEED_ONE if name.startswith("e_measure") else 1
        assert (values >= 0).all(), name
        assert (values <= highest + 1e-12).all(), name


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_inverting_map_and_mask_keeps_what_is_symmetric_and_changes_f(seed):
    maps, masks = pictures(seed)
    masks[:, 0, 0], masks[:, -1, -1] = True, False
    ours, inverted = score(maps, masks), score(255 - maps, ~masks)
    np.testing.assert_allclose(inverted["mae"], ours["mae"], atol=1e-12)
    np.testing.assert_allclose(inverted["accuracy"], ours["accuracy"], atol=1e-12)
    np.testing.assert_allclose(inverted["e_measure"][:, 1:], ours["e_measure"][:, :0:-1], atol=1e-12)
    # Precision of the inverted pair is the share of true negatives among what is not predicted here.
    tn = (~masks[0] & (maps[0] < 100)).sum() / max((maps[0] < 100).sum(), 1)
    assert inverted["precision"][0, 156] == pytest.approx(tn, abs=1e-12)


def test_polarity_changes_f():
    maps, masks = np.uint8([[[255, 0], [0, 0]]]), np.array([[[True, True], [False, False]]])
    right, wrong = score(maps, masks), score(255 - maps, ~masks)
    assert right["f_at_half"][0] == pytest.approx(1.3 * 0.5 / (0.3 + 0.5))
    assert wrong["f_at_half"][0] == pytest.approx(1.3 * (2 / 3) / (0.3 * 2 / 3 + 1))
    assert right["mae"][0] == wrong["mae"][0]


def test_scores_are_compiled_once_for_pictures_of_all_sizes():
    maps, masks = pictures(0)
    before = image._score_counts._cache_size()
    for pad in ((0, 1), (2, 3), (5, 8)):
        score(maps[:1], masks[:1], pad=pad)
    assert image._score_counts._cache_size() <= before + 1


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0, 130, 255]))
def test_padding_has_no_say(seed, fill):
    maps, masks = pictures(seed)
    plain, padded = score(maps, masks), score(maps, masks, pad=(20, 5), fill=fill)
    for name, values in plain.items():
        if name == "weighted_f":  # a sum of floats, whose order the padding changes
            np.testing.assert_allclose(padded[name], values, atol=1e-13)
        else:
            np.testing.assert_array_equal(padded[name], values, err_msg=name)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_order_and_batches_do_not_matter(seed):
    batch = score(*pictures(seed))
    whole = data_set(batch)
    shuffled = data_set({name: values[[2, 0, 3, 1]] for name, values in batch.items()})
    parts = data_set(*({name: v[i : i + 2] for name, v in batch.items()} for i in (0, 2)))
    for name, value in whole.items():
        assert shuffled[name] == pytest.approx(value, abs=1e-12), name
        assert parts[name] == pytest.approx(value, abs=1e-12), name


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_a_map_that_moves_towards_its_mask_scores_better(seed):
    maps, masks = pictures(seed)
    masks[:, :3, :3], masks[:, -3:, -3:] = True, False
    steps = np.stack([np.rint((1 - a) * maps[0] + a * 255 * masks[0]) for a in (0, 0.4, 0.8, 1)]).astype(np.uint8)
    scores = score(steps, np.repeat(masks[:1], 4, axis=0))
    assert (np.diff(scores["mae"]) <= 1e-12).all()
    best = scores["f"].max(1)
    assert (np.diff(best) >= -1e-12).all()
    for name in ("f_at_half", "iou", "accuracy"):
        assert (np.diff(scores[name]) >= -1e-12).all(), name
    for name in ("weighted_f", "s_measure", "e_measure_adaptive", "adaptive_f"):
        assert scores[name][-1] >= scores[name].max() - 1e-9, name


def test_a_perfect_map():
    _, masks = pictures(3)
    scores = score(255 * masks.astype(np.uint8), masks)
    for name in ("adaptive_f", "f_at_half", "weighted_f", "iou", "accuracy", "s_measure"):
        np.testing.assert_allclose(scores[name], 1, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(scores["e_measure_adaptive"], MAY_EXCEED_ONE, atol=1e-12)
    np.testing.assert_array_equal(scores["mae"], 0)


def test_empty_and_full_masks_and_constant_maps_are_defined():
    maps = np.uint8([np.zeros((SIDE, SIDE)), np.full((SIDE, SIDE), 51), np.full((SIDE, SIDE), 255)])
    for full, expected in ((False, [1, 0.8, 0]), (True, [0, 0.2, 1])):
        masks = np.full(maps.shape, full)
        scores = score(maps, masks)
        assert all(np.isfinite(values).all() for values in scores.values())
        np.testing.assert_allclose(scores["mae"], [1 - e for e in expected], atol=1e-12)
        np.testing.assert_allclose(scores["s_measure"], expected, atol=1e-12)
        if not full:
            for name in ("f_at_half", "adaptive_f", "weighted_f", "iou"):
                np.testing.assert_array_equal(scores[name], 0, err_msg=name)
    np.testing.assert_allclose(scores["weighted_f"][2], 1, atol=1e-12)
    assert (score(maps, masks, normalize=True)["mae"] == score(maps, masks)["mae"]).all()  # nothing to stretch


def test_one_pixel_and_a_centroid_on_the_border_stay_finite():
    for shape in ((1, 1, 1), (1, 5, 7)):
        masks = np.zeros(shape, bool)
        masks[:, -1, -1] = True
        scores = score(np.full(shape, 90, np.uint8), masks)
        assert all(np.isfinite(values).all() for values in scores.values()), shape


def test_normalizing_stretches_each_map_to_its_own_range():
    maps, masks = np.uint8([[[50, 100], [75, 100]]]), np.array([[[False, True], [False, True]]])
    assert score(maps, masks, normalize=True)["mae"][0] == pytest.approx((0 + 0 + 0.5 + 0) / 4, abs=1e-12)
    stretched = score(np.uint8([[[0, 255], [127, 255]]]), masks)
    for name in CURVES:
        np.testing.assert_array_equal(score(maps, masks, normalize=True)[name], stretched[name])


def test_no_image_has_no_score():
    assert all(np.isnan(value) for value in Scores.empty().compute().values())
