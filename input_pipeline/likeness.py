"""Which photos are the same picture, also after scaling or another compression: leakage between train and test."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8, UInt64
from PIL import Image

_SIDE = 16
_BITS = 6  # of 64 in which fingerprints of one picture may differ
_LEVELS = 6.0  # of 255: mean difference of two thumbnails of one picture

Thumbnail = Float32[np.ndarray, "16 16 3"]


def thumbnail(image: UInt8[np.ndarray, "h w 3"]) -> Thumbnail:
    """A photo in 16×16 pixels, 0–255, whatever its shape."""
    small = Image.fromarray(np.ascontiguousarray(image)).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32)


def same_pictures(thumbnails: Sequence[Thumbnail]) -> list[tuple[int, int]]:
    """Pairs of indices, the smaller first, of photos that look like one picture.

    Fingerprints find the candidates: 64 bits that say whether it becomes brighter to the right. The thumbnails decide,
    since fingerprints of flat pictures are alike by chance.
    """
    if not thumbnails:
        return []
    small = np.stack(thumbnails)
    prints = _fingerprints(small)
    pairs = []
    for first in range(len(prints) - 1):
        near = np.flatnonzero(np.bitwise_count(prints[first + 1 :] ^ prints[first]) <= _BITS) + first + 1
        differences = np.abs(small[near] - small[first]).mean(axis=(1, 2, 3))
        pairs += [(first, int(second)) for second in near[differences <= _LEVELS]]
    return pairs


def _fingerprints(small: Float32[np.ndarray, "n 16 16 3"]) -> UInt64[np.ndarray, " n"]:
    grey = small.mean(axis=-1).reshape(len(small), 8, 2, 8, 2).mean(axis=(2, 4))
    brighter = np.roll(grey, -1, axis=2) > grey
    return np.packbits(brighter.reshape(len(small), 64), axis=1).view(np.uint64)[:, 0]
