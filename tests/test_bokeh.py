import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from input_pipeline import optics
from input_pipeline.bokeh import SHARES, Bokeh
from input_pipeline.records import DataError
from input_pipeline.scenes import Scenes
from input_pipeline.sharpness import region_sharpness
from input_pipeline.sources import Spec, open_source

PHOTOS = Path(__file__).parents[2] / "shared/data/msra10k/val"
RED, GREY = (230, 20, 20), (128, 128, 128)


class Fixed:
    """One image and mask under several ids."""

    def __init__(self, image, mask, ids=("a",), white="salient"):
        self.image, self.mask, self.ids, self.white = image, mask, ids, white

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        return {"image": self.image, "mask": self.mask, "id": self.ids[index]}


def red_disk_on_grey(h=120, w=160):
    y, x = np.mgrid[:h, :w]
    subject = (y - h / 2) ** 2 + (x - w / 2) ** 2 < 30**2
    image = np.where(subject[..., None], np.uint8(RED), np.uint8(GREY))
    return image, subject


def only(focus, source, radius=0.03, noise=0.0, natural=0.0, jpeg=None, **options):
    """One focus and one radius, and nothing done to the picture but blur unless asked for."""
    exact = {"radius": (radius, radius), "noise": (noise, noise), "natural": natural, "jpeg": jpeg}
    return Bokeh(source, shares={focus: 1.0}, **exact, **options)


def textured(h=120, w=160, seed=0):
    """Edges of every direction, as sharp as pixels are."""
    blocks = np.random.default_rng(seed).integers(0, 2, (h // 8, w // 8, 1), np.uint8)
    return np.repeat(np.kron(blocks, np.ones((8, 8, 1), np.uint8)) * np.uint8(180), 3, axis=-1)


def soft(image, sigma=3.0):
    return np.stack([ndimage.gaussian_filter(image[..., c], sigma) for c in range(3)], axis=-1)


def box(h=120, w=160):
    subject = np.zeros((h, w), bool)
    subject[h // 4 : -h // 4, w // 4 : -w // 4] = True
    return subject


def detail_of(image):
    return np.abs(ndimage.laplace(image.mean(axis=-1).astype(np.float32)))


def test_a_record_has_the_photo_s_size_and_a_binary_mask():
    source = Scenes("salient", size=(72, 100))
    composites = Bokeh(source)
    assert composites.white == "blur"
    assert len(composites) == len(source)
    record = composites[4]
    assert record["image"].shape == (72, 100, 3)
    assert record["mask"].shape == (72, 100)
    assert record["image"].dtype == record["mask"].dtype == np.uint8
    assert set(np.unique(record["mask"])) <= {0, 255}
    assert record["id"] == source[4]["id"]


def test_masks_of_anything_but_salient_objects_are_refused():
    with pytest.raises(DataError, match="'blur'"):
        Bokeh(Scenes("blur"))


def test_a_configurations_radius_that_is_no_range_is_refused_in_one_line():
    with pytest.raises(DataError, match=r"the radius of bokeh is \[0.01\]; it is a range, of two numbers"):
        open_source(Spec("bokeh", source="scenes", radius=[0.01]), "blur")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": {"subjekt": 1.0}}, "subjekt"),
        ({"shares": {}}, "shares"),
        ({"shares": {"subject": 0.0}}, "shares"),
        ({"shares": {"subject": 2.0, "plane": -1.0}}, "shares"),
        ({"radius": (0.03, 0.01)}, "radius"),
        ({"threshold": 0.01}, "threshold"),
        ({"noise": (-1.0, 1.0)}, "noise"),
        ({"natural": 1.5}, "natural"),
        ({"jpeg": (0, 50)}, "jpeg"),
        ({"jpeg": (90, 60)}, "jpeg"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Bokeh(Scenes("salient"), **options)


def test_a_composite_depends_on_seed_and_id_alone():
    image, subject = red_disk_on_grey()
    mask = subject * np.uint8(255)
    first = Bokeh(Fixed(image, mask, ("a", "b")))
    again = Bokeh(Fixed(image, mask, ("b",)))
    assert np.array_equal(first[1]["image"], again[0]["image"])
    assert np.array_equal(first[1]["mask"], again[0]["mask"])
    assert not np.array_equal(first[0]["image"], first[1]["image"])
    assert not np.array_equal(first[0]["image"], Bokeh(first.source, seed=1)[0]["image"])


def test_threads_and_pickled_copies_give_the_same_composites():
    composites = Bokeh(Scenes("salient", size=64))
    alone = [composites[i] for i in range(12)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(composites.__getitem__, range(12)))
    copy = pickle.loads(pickle.dumps(composites))
    assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(alone, together, strict=True))
    assert np.array_equal(copy[3]["image"], alone[3]["image"])


def test_a_sharp_red_object_leaves_no_red_in_the_blurred_background():
    image, subject = red_disk_on_grey()
    record = only("subject", Fixed(image, subject * np.uint8(255)), radius=0.05)[0]
    outside = ~ndimage.binary_dilation(subject, iterations=2)
    inside = ndimage.binary_erosion(subject, iterations=2)
    assert np.abs(record["image"][outside].astype(int) - GREY).max() <= 1
    assert np.abs(record["image"][inside].astype(int) - RED).max() <= 1
    assert np.array_equal(record["mask"] == 255, ~subject)


def test_colours_mixed_at_the_outline_of_a_photo_stay_out_of_the_background():
    image, subject = red_disk_on_grey()
    photo = np.stack([ndimage.uniform_filter(image[..., c], 3) for c in range(3)], axis=-1)
    record = only("subject", Fixed(photo, subject * np.uint8(255)), radius=0.05)[0]
    outside = ~ndimage.binary_dilation(subject, iterations=3)
    assert np.abs(record["image"][outside].astype(int) - GREY).max() <= 1


def test_a_blurred_object_bleeds_over_the_sharp_background_and_shows_it_through_its_edge():
    image, subject = red_disk_on_grey()
    radius = 8
    record = only("reverse", Fixed(image, subject * np.uint8(255)), radius=radius / 160)[0]
    distance = ndimage.distance_transform_edt(~subject) - ndimage.distance_transform_edt(subject)
    red = record["image"][..., 0].astype(int) - record["image"][..., 1]
    assert red[(distance > 2) & (distance < radius / 2)].min() > 20
    assert np.abs(record["image"][distance > radius + 2].astype(int) - GREY).max() <= 1
    assert red[(distance < 0) & (distance > -2)].max() < 200
    assert np.abs(record["image"][distance < -radius - 2].astype(int) - RED).max() <= 1
    assert np.array_equal(record["mask"] == 255, subject)


@settings(max_examples=25, deadline=None)
@given(
    colour=st.tuples(*[st.integers(0, 255)] * 3),
    focus=st.sampled_from(list(SHARES)),
    subject=st.tuples(st.integers(0, 30), st.integers(1, 30)),
    radius=st.floats(0.004, 0.08),
)
def test_a_constant_photo_stays_constant(colour, focus, subject, radius):
    image = np.broadcast_to(np.uint8(colour), (40, 56, 3))
    mask = np.zeros((40, 56), np.uint8)
    mask[subject[0] :, subject[0] : subject[0] + subject[1]] = 255
    composite = only(focus, Fixed(image, mask), radius=radius)[0]["image"]
    assert np.abs(composite.astype(int) - colour).max() <= 1


@pytest.mark.parametrize("value", [0, 255])
def test_a_photo_without_outline_is_composited_without_one(value):
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    ids = tuple(map(str, range(30)))
    source = Fixed(image, np.full((60, 80), value, np.uint8), ids)
    shares = {record["mask"].mean() / 255 for record in Bokeh(source)}
    assert {0, 1} < shares
    record = only("subject", source)[0]
    assert 0 < record["mask"].mean() < 255


def test_all_sharp_changes_nothing_and_all_blurred_everything():
    record = Scenes("salient", size=80)[0]
    source = Fixed(record["image"], record["mask"])
    sharp, blurred = only("all_sharp", source)[0], only("all_blurred", source)[0]
    assert np.array_equal(sharp["image"], record["image"])
    assert not sharp["mask"].any()
    assert blurred["mask"].all()
    assert detail_of(blurred["image"]).mean() < 0.5 * detail_of(record["image"]).mean()


def test_a_plane_is_sharp_in_a_band_and_blurs_away_from_it():
    noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)
    record = Scenes("salient", size=(150, 200))[0]
    for i in range(5):
        composite = only("plane", Fixed(noise, record["mask"], (str(i),)))[0]
        blurred = composite["mask"] == 255
        detail = detail_of(composite["image"])
        assert 0.1 < blurred.mean() < 0.95
        assert detail[~blurred].mean() > 3 * detail[blurred].mean()


def test_noise_covers_blurred_and_sharp_areas_alike():
    image, subject = red_disk_on_grey()
    record = only("subject", Fixed(np.full_like(image, 128), subject * np.uint8(255)), noise=2.0)[0]
    values = record["image"].astype(float)
    assert values[subject].std() == pytest.approx(2, abs=0.15)
    assert values[~subject].std() == pytest.approx(2, abs=0.15)


def test_shares_come_out_as_asked():
    subject = box()
    source = Fixed(textured(), subject * np.uint8(255), tuple(map(str, range(400))))
    composites = Bokeh(source, shares={"subject": 3.0, "reverse": 1.0}, natural=0.0, jpeg=None)
    kinds = [np.array_equal(record["mask"] == 255, ~subject) for record in composites]
    assert np.mean(kinds) == pytest.approx(0.75, abs=0.07)


def test_a_subject_stands_on_sharp_ground_and_what_is_farther_is_blurred_more():
    """At the subject's foot nothing is blurred; from there up, the detail of the ground only gets less."""
    subject = np.zeros((160, 160), bool)
    subject[60:120, 70:90] = True
    for i in range(5):
        image = textured(160, 160)
        record = only("standing", Fixed(image, subject * np.uint8(255), (str(i),)), radius=0.04)[0]
        inside = ndimage.binary_erosion(subject, iterations=3)
        assert np.abs(record["image"][inside].astype(int) - image[inside]).max() <= 1
        assert not record["mask"][subject].any()
        beside = record["mask"][:, :60]
        assert (beside == beside[:, :1]).all()
        assert not beside[119].any()
        assert beside[0].all()
        assert (np.diff(beside[:120, 0].astype(int)) <= 0).all()
        detail = detail_of(record["image"])[:, :60].reshape(8, 20, 60).mean(axis=(1, 2))
        assert detail[0] < 0.3 * detail[5]


def test_a_photo_with_defocus_of_its_own_is_taken_as_it_is():
    subject = box()
    image = np.where(subject[..., None], textured(), soft(textured()))
    source = Fixed(image, subject * np.uint8(255))
    record = Bokeh(source, natural=1.0)[0]
    assert np.array_equal(record["image"], image)
    assert np.array_equal(record["mask"] == 255, ~subject)
    assert not np.array_equal(only("subject", source)[0]["image"], image)
    for other in (textured(), soft(textured())):  # sharp all over, and nowhere
        assert not np.array_equal(Bokeh(Fixed(other, source.mask), natural=1.0)[0]["image"], other)


@pytest.mark.parametrize(
    ("sharp_subject", "sharp_rest", "focuses"),
    [
        (True, True, set(SHARES)),
        (True, False, {"subject", "standing", "all_blurred"}),
        (False, True, {"reverse", "plane", "all_blurred"}),
        (False, False, {"all_blurred"}),
    ],
)
def test_what_is_blurred_already_is_never_called_sharp(sharp_subject, sharp_rest, focuses):
    subject = box()
    sharp, blurred = textured(), soft(textured())
    image = np.where(subject[..., None], sharp if sharp_subject else blurred, sharp if sharp_rest else blurred)
    composites = Bokeh(Fixed(image, subject * np.uint8(255)))
    front, rest = region_sharpness(image, subject, ~subject)
    drawn = {composites._choose(value, True, front, rest) for value in np.linspace(0, 0.999, 200)}
    assert drawn == focuses
    # Unless that is all there is.
    assert only("all_sharp", composites.source)[0]["mask"].sum() == 0


def test_compression_is_the_last_thing_that_happens():
    image, subject = textured(), box()
    source = Fixed(image, subject * np.uint8(255))
    plain, low, high = (only("subject", source, jpeg=quality)[0] for quality in (None, (30, 30), (95, 95)))
    assert np.array_equal(plain["mask"], low["mask"])
    losses = [np.abs(record["image"].astype(int) - plain["image"]).mean() for record in (high, low)]
    assert 0 < losses[0] < losses[1] < 12
    again = only("subject", source, jpeg=(30, 30))[0]
    assert np.array_equal(low["image"], again["image"])


def test_real_photos_lose_detail_where_the_mask_marks_blur():
    if not PHOTOS.is_dir():
        pytest.skip("needs the MSRA10K photos")
    names = sorted(path.stem for path in (PHOTOS / "images").iterdir())[:24]
    before, marked, unmarked = [], [], []
    for name in names:
        image = np.asarray(Image.open(next((PHOTOS / "images").glob(f"{name}.*"))).convert("RGB"))
        mask = np.asarray(Image.open(PHOTOS / "masks" / f"{name}.png").convert("L"))
        record = only("subject", Fixed(image, mask, (name,)), radius=0.015)[0]
        blurred = ndimage.binary_erosion(record["mask"] == 255, iterations=2)
        focused = ndimage.binary_erosion(record["mask"] == 0, iterations=2)
        detail = detail_of(record["image"])
        before.append(detail_of(image)[blurred].mean())
        marked.append(detail[blurred].mean())
        unmarked.append(detail[focused].mean())
        # The subject comes through the round trip into linear light untouched.
        assert np.abs(record["image"][focused].astype(int) - image[focused]).max() <= 1
    assert np.mean(marked) < 0.35 * np.mean(before)
    assert np.mean(marked) < 0.35 * np.mean(unmarked)


def test_extension_reaches_under_the_whole_subject():
    image, subject = red_disk_on_grey()
    linear = optics.decode_srgb(image)
    background = optics.extend(linear, 1 - subject.astype(np.float32))
    np.testing.assert_allclose(background, linear[0, 0] * np.ones_like(linear), atol=1e-5)
