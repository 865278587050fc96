import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from input_pipeline import optics
from input_pipeline.records import DataError
from input_pipeline.scenes import LENGTHS, Scenes


def sharpness(image: np.ndarray) -> np.ndarray:
    return np.abs(ndimage.laplace(image.mean(axis=-1).astype(np.float32)))


def rng_from(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_record_has_native_size_and_binary_mask():
    source = Scenes("blur", "val", size=(96, 130))
    record = source[3]
    assert record["image"].shape == (96, 130, 3)
    assert record["image"].dtype == np.uint8
    assert record["mask"].shape == (96, 130)
    assert record["mask"].dtype == np.uint8
    assert set(np.unique(record["mask"])) <= {0, 255}
    assert record["id"] == "scene-val-00003"
    assert source.white == "blur"


def test_default_lengths_and_the_end_of_the_source():
    assert [len(Scenes("salient", split)) for split in LENGTHS] == [2000, 200, 200]
    short = Scenes("salient", size=64, length=3)
    assert len({record["id"] for record in short}) == 3
    with pytest.raises(IndexError):
        short[3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"white": "sharp"}, "sharp"),
        ({"white": "blur", "split": "dev"}, "train, val, test"),
        ({"white": "blur", "size": 16}, "32"),
        ({"white": "blur", "length": 0}, "length 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(DataError, match=message):
        Scenes(**arguments)


@settings(max_examples=10, deadline=None)
@given(index=st.integers(0, 1999), seed=st.integers(0, 2**40))
def test_the_same_index_is_the_same_scene_whatever_white_is(index, seed):
    salient, blur, focus = (Scenes(white, size=64, seed=seed)[index] for white in ("salient", "blur", "focus"))
    assert np.array_equal(salient["image"], blur["image"])
    assert np.array_equal(focus["image"], blur["image"])
    assert np.array_equal(focus["mask"], 255 - blur["mask"])
    assert 0 < (salient["mask"] == 255).mean() < 0.7


def test_splits_and_seeds_share_no_scene():
    pictures = {
        Scenes("salient", split, size=48, seed=seed)[i]["image"].tobytes()
        for split in LENGTHS
        for seed in (0, 1)
        for i in range(8)
    }
    assert len(pictures) == 3 * 2 * 8


def test_threads_and_pickled_copies_give_the_same_scenes():
    source = Scenes("salient", size=64)
    alone = [source[i]["image"] for i in range(12)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda i: source[i]["image"], range(12)))
    copy = pickle.loads(pickle.dumps(source))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    assert np.array_equal(copy[5]["image"], alone[5])


def test_marked_blur_is_blurred_and_mostly_behind_the_salient_objects():
    salient, blur = Scenes("salient"), Scenes("blur")
    marked, unmarked, prior = [], [], []
    for i in range(120):
        image, blurred = blur[i]["image"], blur[i]["mask"] == 255
        # Bleeding across an outline belongs to neither side.
        inside, outside = (
            ndimage.binary_erosion(blurred, iterations=8),
            ndimage.binary_erosion(~blurred, iterations=3),
        )
        detail = sharpness(image)
        if inside.any() and outside.any():
            marked.append(detail[inside].mean())
            unmarked.append(detail[outside].mean())
        prior.append(np.mean((salient[i]["mask"] == 255) != blurred))
    assert np.mean(unmarked) > 2 * np.mean(marked)
    assert np.mean(np.array(unmarked) > marked) > 0.95
    # Transfer has something to learn from, and something left to learn.
    assert 0.5 < np.mean(np.array(prior) > 0.9) < 0.9


@settings(max_examples=30, deadline=None)
@given(radius=st.floats(0, 20))
def test_a_disk_sums_to_one_and_spreads_as_far_as_its_radius_says(radius):
    kernel = optics.disk_kernel(radius)
    assert kernel.shape == kernel.T.shape
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert np.allclose(kernel, kernel.T)
    assert np.allclose(kernel, kernel[::-1, ::-1])
    axis = np.arange(len(kernel)) - len(kernel) // 2
    second_moment = float((kernel.sum(axis=0) * axis**2).sum())
    if radius <= optics.SHARP_RADIUS:
        assert second_moment == 0
    else:
        # A disk's is r²/4; rounding to whole pixels adds 1/12 and, of 6,000 radii, up to 0.053 or, below 2, 0.149.
        assert second_moment == pytest.approx(radius**2 / 4 + 1 / 12, abs=0.06 if radius > 2 else 0.16)


@pytest.mark.parametrize("radius", [-1.0, np.nan, np.inf])
def test_a_radius_that_is_none_is_refused(radius):
    with pytest.raises(ValueError, match="radius"):
        optics.disk_kernel(radius)


@settings(max_examples=20, deadline=None)
@given(
    radius=st.floats(0, 9),
    shape=st.tuples(st.integers(5, 40), st.integers(5, 40)),
    seed=st.integers(0, 99),
)
def test_blur_agrees_with_direct_convolution(radius, shape, seed):
    planes = rng_from(seed).random((*shape, 2), dtype=np.float32)
    blurred = optics.blur(planes, radius)
    kernel = optics.disk_kernel(radius)
    assert blurred.dtype == np.float32
    for c in range(2):
        direct = ndimage.convolve(planes[..., c], kernel, mode="reflect")
        np.testing.assert_allclose(blurred[..., c], direct, atol=2e-6)


def test_varying_blur_agrees_with_plain_blur_where_the_radius_is_constant():
    image = rng_from(0).random((60, 80, 3), dtype=np.float32)
    level = 0.5 * 1.5**5
    radius = np.full((60, 80), level, np.float32)
    np.testing.assert_allclose(optics.blur_varying(image, radius), optics.blur(image, level), atol=1e-5)
    radius[:30] = 0
    mixed = optics.blur_varying(image, radius)
    np.testing.assert_allclose(mixed[:30], image[:30], atol=1e-5)
    np.testing.assert_allclose(mixed[30:], optics.blur(image, level)[30:], atol=1e-5)


def test_all_8_bit_levels_survive_decoding_and_exposing():
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert np.array_equal(optics.expose(optics.decode_srgb(levels), 0.0, rng_from(0)), levels)


@settings(max_examples=20, deadline=None)
@given(shape=st.tuples(st.integers(1, 33), st.integers(1, 33)), seed=st.integers(0, 99))
def test_a_surface_is_extended_from_its_own_values_only(shape, seed):
    rng = rng_from(seed)
    known = (rng.random(shape) < 0.3).astype(np.float32)
    image = rng.uniform(0.2, 0.4, (*shape, 3)).astype(np.float32)
    image[known == 0] = 1000
    extended = optics.extend(image, known)
    assert np.array_equal(extended[known == 1], image[known == 1])
    if known.any():
        assert 0.199 < extended.min() <= extended.max() < 0.401
    else:
        assert not extended.any()
