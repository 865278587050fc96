"""Large photos in tiles: what they cover, how they overlap and how they are blended."""

from itertools import pairwise

import numpy as np
import pytest

from afiu_jax.networks.sizes import LegalSizes
from afiu_jax.tiling import native_maps, ramp, starts


@pytest.mark.parametrize("size", [(1, 1), (20, 3000), (640, 427), (641, 641), (1500, 900)])
def test_tiles_cover_a_photo_and_leave_no_seam(size):
    """With a network that gives back what it sees, the blend of all tiles is the photo."""
    photo = np.random.default_rng(0).random((1, *size, 3), np.float32)
    seen = []

    def run(images):
        seen.append(images.shape[1:3])
        return images[..., 0]

    found = native_maps(run, photo, LegalSizes(multiple=32, least=64))
    np.testing.assert_allclose(found, photo[..., 0], atol=1e-6)
    assert all(side % 32 == 0 and 64 <= side <= 640 for shape in seen for side in shape)
    assert len(set(seen)) == 1  # one program to compile


def test_neighbouring_tiles_are_blended_linearly():
    """Tiles that disagree by 1 meet in a ramp as wide as their overlap, not in a step."""
    counter = iter(range(10))

    def run(images):
        return np.full(images.shape[:3], float(next(counter) % 2), np.float32)

    row = native_maps(run, np.zeros((1, 64, 192, 3), np.float32), LegalSizes(), tile=128, overlap=64)[0, 0]
    assert row[0] == 0
    assert row[-1] == 1
    assert np.abs(np.diff(row)).max() < 2 / 64


@pytest.mark.parametrize("side", [100, 640, 641, 1153, 4000])
def test_tiles_are_spread_evenly_and_overlap(side):
    places = starts(side, 640, 128)
    assert places[0] == 0
    assert places[-1] == max(side - 640, 0) or side < 640
    assert all(b - a <= 640 - 128 for a, b in pairwise(places))
    assert ramp(640, 128).max() == 1
    assert ramp(640, 128).min() > 0
