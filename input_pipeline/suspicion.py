"""Signs in the pixels that a pair is not what it is taken for."""

import numpy as np
from jaxtyping import UInt8

_COLOURED = 48  # levels between the channels of a pixel; what JPEG does to grey stays below
_EXTREME = 24  # levels from black or white that count as black or white


def looks_swapped(image: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w 3"]) -> bool:
    """Whether the photo seems to stand where the mask should.

    Either the mask has colours, which no mask has; or the image is black and white all over and the mask is not.

    Args:
        image: what should be the photo.
        mask: what should be the mask, with its colours if it has any.
    """
    lowest, highest = _extremes(mask)
    if (highest - lowest > _COLOURED).mean() > 0.02:
        return True
    return _two_valued(mask) < 0.5 and _two_valued(image) > 0.98


def looks_unscaled(mask: UInt8[np.ndarray, "h w"]) -> bool:
    """Whether a mask seems to hold 0 and 1, or labels, in place of 0 and 255: marked, but nowhere from 128 on."""
    return 0 < int(mask.max()) < 128


def _two_valued(picture: UInt8[np.ndarray, "h w 3"]) -> float:
    """Share of the pixels that are nearly black or nearly white."""
    lowest, highest = _extremes(picture)
    return float(((highest <= _EXTREME) | (lowest >= 255 - _EXTREME)).mean())


def _extremes(picture: UInt8[np.ndarray, "h w 3"]) -> tuple[UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]]:
    """Lowest and highest channel of every pixel; channel by channel, since reducing an axis of three is slow."""
    first, second, third = np.moveaxis(picture, -1, 0)
    return np.minimum(np.minimum(first, second), third), np.maximum(np.maximum(first, second), third)
