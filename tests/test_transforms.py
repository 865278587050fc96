import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from input_pipeline.transforms import Augment, binarize, jitter, normalize, resize

LUMA = np.array([0.299, 0.587, 0.114])
sides = st.integers(1, 40)


def rng_from(seed):
    return np.random.default_rng(seed)


def noise(*shape, seed=0, low=0, high=256):
    return rng_from(seed).integers(low, high, shape, dtype=np.uint8)


def weights(old, new, width):
    """Of each old pixel in each new one: a hat of ``width`` old pixels' half base around the new pixel's centre."""
    centres = (np.arange(new)[:, None] + 0.5) * old / new - 0.5
    if width == 1:
        centres = centres.clip(0, old - 1)  # the outermost pixels continue beyond the edge
    hats = np.maximum(0, 1 - np.abs(centres - np.arange(old)) / width)
    return hats / hats.sum(axis=1, keepdims=True)


def resized(image, size, antialias=False):
    rows, columns = (
        weights(old, new, max(1.0, old / new) if antialias else 1)
        for old, new in zip(image.shape[:2], size, strict=True)
    )
    return np.einsum("yh,xw,hw...->yx...", rows, columns, image.astype(float), optimize=True)


def record_of(h=7, w=10, seed=0):
    """The mask is the image's first channel, so that a pixel of one can be found in the other."""
    image = noise(h, w, 3, seed=seed)
    return {"image": image, "mask": image[..., 0].copy(), "id": "a"}


@settings(max_examples=60, deadline=None)
@given(h=sides, w=sides, h2=sides, w2=sides, colour=st.booleans(), seed=st.integers(0, 99))
def test_resize_is_bilinear_between_pixel_centres(h, w, h2, w2, colour, seed):
    image = noise(*((h, w, 3) if colour else (h, w)), seed=seed)
    result = resize(image, (h2, w2))
    assert result.shape == (h2, w2, *image.shape[2:])
    assert result.dtype == np.uint8
    assert np.abs(result - resized(image, (h2, w2))).max() <= 1 + 1e-6


@settings(max_examples=40, deadline=None)
@given(h=sides, w=sides, h2=sides, w2=sides, seed=st.integers(0, 99))
def test_antialiasing_widens_the_filter_by_the_shrinkage(h, w, h2, w2, seed):
    image = noise(h, w, 3, seed=seed)
    difference = resize(image, (h2, w2), antialias=True) - resized(image, (h2, w2), antialias=True)
    assert np.abs(difference).max() <= 1.5  # rounded twice: after the columns and after the rows


def test_antialiasing_smooths_what_sampling_leaves_aliased():
    image = noise(128, 96, 3)
    sampled, smooth = resize(image, (16, 12)), resize(image, (16, 12), antialias=True)
    assert smooth.std() < 0.4 * sampled.std()


@pytest.mark.parametrize("size", [(320, 320), (37, 53), (53, 37), (160, 213)])
def test_resize_of_a_photo_s_size(size):
    image = noise(161, 214, 3)
    assert np.abs(resize(image, size) - resized(image, size)).max() <= 1 + 1e-6


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("shape", [(9, 14, 3), (9, 14)])
def test_resize_to_its_own_size_changes_nothing(antialias, shape):
    image = noise(*shape)
    assert np.array_equal(resize(image, (9, 14), antialias=antialias), image)


def test_resize_takes_views():
    image = noise(20, 30, 3)
    assert np.array_equal(resize(image[::-1, ::2], (8, 9)), resize(image[::-1, ::2].copy(), (8, 9)))


@pytest.mark.parametrize("size", [(11, 13), (90, 70)])
def test_a_mask_stays_within_black_and_white_and_keeps_flat_areas(size):
    mask = np.zeros((40, 40), np.uint8)
    mask[:, 20:] = 255
    result = resize(mask, size)
    assert (result[:, : size[1] // 2 - 2] == 0).all()
    assert (result[:, size[1] // 2 + 2 :] == 255).all()


@pytest.mark.parametrize("vertical", [0.0, 1.0])
@pytest.mark.parametrize("horizontal", [0.0, 1.0])
def test_flips_are_exact_on_both(vertical, horizontal):
    record = record_of()
    augment = Augment(vertical_flip=vertical, horizontal_flip=horizontal, color_jitter=0.0)
    rows = range(6, -1, -1) if vertical else range(7)
    columns = range(9, -1, -1) if horizontal else range(10)
    for seed in range(20):
        result = augment(record, rng_from(seed))
        assert result["image"].tolist() == [[record["image"][y, x].tolist() for x in columns] for y in rows]
        assert result["mask"].tolist() == [[record["mask"][y, x] for x in columns] for y in rows]
        assert result["id"] == "a"


def test_flips_come_with_their_probabilities_and_each_for_itself():
    record = record_of()
    augment = Augment(vertical_flip=0.5, horizontal_flip=0.25, color_jitter=0.0)
    counts = {(v, h): 0 for v in (False, True) for h in (False, True)}
    flipped = {(v, h): record["image"][:: -1 if v else 1, :: -1 if h else 1].tobytes() for v, h in counts}
    for seed in range(1600):
        image = augment(record, rng_from(seed))["image"].tobytes()
        counts[next(key for key, value in flipped.items() if value == image)] += 1
    expected = {(False, False): 600, (True, False): 600, (False, True): 200, (True, True): 200}
    assert all(abs(counts[key] - expected[key]) < 100 for key in expected), counts


def test_by_default_rows_are_reversed_in_half_of_the_draws_and_columns_never():
    record = record_of()
    masks = [Augment()(record, rng_from(seed))["mask"] for seed in range(400)]
    upright = sum(np.array_equal(mask, record["mask"]) for mask in masks)
    reversed_ = sum(np.array_equal(mask, record["mask"][::-1]) for mask in masks)
    assert upright + reversed_ == 400
    assert 140 < upright < 260


@settings(max_examples=40, deadline=None)
@given(
    h=st.integers(1, 20),
    w=st.integers(1, 20),
    vertical=st.floats(0, 1),
    horizontal=st.floats(0, 1),
    strength=st.sampled_from([0.0, 0.1, 0.9]),
    seed=st.integers(0, 2**32),
)
def test_augment_keeps_shapes_and_types_and_repeats_itself(h, w, vertical, horizontal, strength, seed):
    record, untouched = record_of(h, w), record_of(h, w)
    augment = Augment(vertical, horizontal, strength)
    result, again = augment(record, rng_from(seed)), augment(record, rng_from(seed))
    assert result["image"].shape == (h, w, 3)
    assert result["mask"].shape == (h, w)
    assert result["image"].dtype == result["mask"].dtype == np.uint8
    for key in ("image", "mask"):
        assert np.array_equal(result[key], again[key])
        assert np.array_equal(record[key], untouched[key])
    if not strength:
        assert np.array_equal(result["image"][..., 0], result["mask"])


def test_jitter_of_another_generator_is_another_picture():
    record = record_of(20, 20)
    pictures = {Augment(0.0, 0.0, 0.2)(record, rng_from(seed))["image"].tobytes() for seed in range(30)}
    assert len(pictures) >= 28


def test_jitter_leaves_the_mask():
    record = record_of(20, 20)
    result = Augment(0.0, 0.0, 0.5)(record, rng_from(3))
    assert np.array_equal(result["mask"], record["mask"])
    assert not np.array_equal(result["image"], record["image"])


@settings(max_examples=40, deadline=None)
@given(strength=st.floats(0.01, 0.99), seed=st.integers(0, 2**32))
def test_jitter_of_grey_stays_grey(strength, seed):
    image = np.repeat(noise(12, 9, 1, seed=seed), 3, axis=-1)
    result = jitter(image, strength, rng_from(seed)).astype(int)
    assert np.ptp(result, axis=-1).max() <= 1  # the grey version is off by float32's precision
    assert np.mean(np.ptp(result, axis=-1) == 0) > 0.9


@settings(max_examples=40, deadline=None)
@given(grey=st.integers(0, 255), strength=st.floats(0.01, 0.99), seed=st.integers(0, 2**32))
def test_jitter_of_one_flat_grey_is_brightness_alone(grey, strength, seed):
    result = jitter(np.full((6, 7, 3), grey, np.uint8), strength, rng_from(seed)).astype(float)
    assert np.ptp(result) <= 1
    assert grey * (1 - strength) - 1 <= result.min()
    assert result.max() <= min(255, grey * (1 + strength)) + 1


def factors(image, result):
    """Brightness, contrast and saturation, told from a picture and its jittered version where nothing clipped.

    The three together map a pixel x of luma L to a·x + b·L + c. Saturation leaves luma alone, contrast the mean luma,
    so brightness is the ratio of the mean lumas, brightness × contrast is a + b, and all three make a.
    """
    x, y = image.reshape(-1, 3).astype(float), result.reshape(-1, 3).astype(float)
    grey = np.repeat((x @ LUMA)[:, None], 3, axis=1)
    terms = np.stack([x.ravel(), grey.ravel(), np.ones(x.size)], axis=1)
    (a, b, c), *_ = np.linalg.lstsq(terms, y.ravel(), rcond=None)
    assert np.abs(terms @ [a, b, c] - y.ravel()).max() < 1.01  # rounded, all up or all down at worst
    brightness = (y @ LUMA).mean() / grey.mean()
    return brightness, (a + b) / brightness, a / (a + b)


@pytest.mark.parametrize("strength", [0.1, 0.25])
def test_jitter_draws_three_factors_around_one(strength):
    image = np.concatenate([noise(24, 24, 1, seed=i, low=80 + 20 * i, high=120 + 20 * i) for i in range(3)], axis=-1)
    drawn = np.array([factors(image, jitter(image, strength, rng_from(seed))) for seed in range(150)])
    assert np.abs(drawn - 1).max() < strength + 0.02
    assert (drawn.min(axis=0) < 1 - 0.8 * strength).all()
    assert (drawn.max(axis=0) > 1 + 0.8 * strength).all()
    assert np.abs(drawn.mean(axis=0) - 1).max() < 0.25 * strength
    # A uniform distribution of half width s has deviation s / √3.
    assert np.abs(drawn.std(axis=0) * np.sqrt(3) / strength - 1).max() < 0.2
    assert np.abs(np.corrcoef(drawn.T) - np.eye(3)).max() < 0.3


def test_jitter_clips_and_does_not_wrap():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4] = 255
    for seed in range(30):
        result = jitter(image, 0.9, rng_from(seed)).astype(float)
        assert result[:4].min() > result[4:].max() - 1


@pytest.mark.parametrize(
    ("how", "pixels", "expected"),
    [
        # (255, 0, 128) / 255 = (1, 0, 0.501961), less (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225)
        (
            "imagenet",
            [(255, 0, 128), (0, 0, 0)],
            [(2.248908, -2.035714, 0.426492), (-2.117904, -2.035714, -1.804444)],
        ),
        # the maximum is 200: (1, 0.5, 0) and (0.25, 1, 0.05)
        (
            "max-imagenet",
            [(200, 100, 0), (50, 200, 10)],
            [(2.248908, 0.196429, -1.804444), (-1.026201, 2.428571, -1.582222)],
        ),
        ("max-imagenet", [(0, 0, 0), (0, 0, 0)], [(-2.117904, -2.035714, -1.804444)] * 2),
        # blue, green, red as they are
        (
            "bgr255",
            [(10, 20, 30), (255, 0, 0)],
            [(30, 20, 10), (0, 0, 255)],
        ),
    ],
)
def test_normalize_by_hand(how, pixels, expected):
    result = normalize(np.array([pixels], np.uint8), how)
    assert result.dtype == np.float32
    assert result.shape == (1, 2, 3)
    assert np.abs(result[0] - expected).max() < 1e-5 * max(1, np.abs(expected).max())


def test_normalize_leaves_its_argument():
    image = noise(5, 6, 3)
    for how in ("imagenet", "max-imagenet", "bgr255"):
        normalize(image, how)
    assert np.array_equal(image, noise(5, 6, 3))


def test_binarize_splits_between_127_and_128():
    mask = np.array([[0, 1, 127], [128, 129, 255]], np.uint8)
    result = binarize(mask)
    assert result.dtype == np.float32
    assert result.tolist() == [[[0.0], [0.0], [0.0]], [[1.0], [1.0], [1.0]]]
