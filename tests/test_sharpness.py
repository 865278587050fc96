"""The measure that tells in-focus from out-of-focus parts of a photo."""

import numpy as np
import pytest
from scipy import ndimage
from test_bokeh import box, soft, textured

from input_pipeline.sharpness import region_sharpness


def test_sharp_edges_are_told_from_soft_ones_at_any_contrast():
    subject = box()
    for contrast in (1.0, 0.5, 0.25):
        sharp = (textured() * contrast).astype(np.uint8)
        mixed = np.where(subject[..., None], sharp, soft(sharp))
        front, rest = region_sharpness(mixed, subject, ~subject)
        assert front.typical > 1.5
        assert rest.typical < 1.25
        assert rest.most < 2.2


@pytest.mark.parametrize("sigma", [1.5, 2.0, 3.0, 5.0])
def test_more_blur_never_looks_sharper(sigma):
    everything = np.ones((120, 160), bool)
    (less,) = region_sharpness(soft(textured(), sigma), everything)
    (more,) = region_sharpness(soft(textured(), sigma * 1.3), everything)
    (none,) = region_sharpness(textured(), everything)
    assert more.typical <= less.typical + 0.02 < none.typical


def test_the_outline_itself_does_not_count():
    """A sharp bright object before soft ground: its edge belongs to neither."""
    subject = box(400, 400)
    ground = soft(textured(400, 400)) // 4
    image = np.where(subject[..., None], np.uint8(250), ground)
    front, rest = region_sharpness(image, subject, ~subject)
    assert front is None  # nothing in it
    assert rest.most < 1.5


def test_what_is_too_flat_or_too_small_is_not_judged():
    flat = np.full((120, 160, 3), 90, np.uint8)
    dot = np.zeros((120, 160), bool)
    dot[50:60, 50:60] = True
    assert region_sharpness(flat, np.ones((120, 160), bool)) == [None]
    assert region_sharpness(textured(), dot) == [None]


def test_the_measure_follows_the_photo_and_not_its_pixels():
    """The same picture at twice the size, from a lens that is as sharp, is as sharp."""
    small = soft(textured(400, 400), 1.5)
    large = np.stack([ndimage.zoom(small[..., c].astype(float), 2, order=1) for c in range(3)], axis=-1)
    whole = [np.ones(x.shape[:2], bool) for x in (small, large)]
    values = [
        region_sharpness(np.rint(x).astype(np.uint8), region)[0].typical
        for x, region in zip((small, large), whole, strict=True)
    ]
    assert values[0] == pytest.approx(values[1], rel=0.1)
