"""How sharp a part of a photo is, from the photo alone: what its strongest edges lose when they are blurred again.

A sharp edge loses most of its slope to a second blur, an edge that is soft already next to nothing. The measure does
not depend on contrast (reblurring: Zhuo and Sim, Defocus map estimation from a single image, Pattern Recognition 2011).
"""

from typing import NamedTuple

import numpy as np
import scipy  # its parts, which take a while to load, are loaded where they are first used
from jaxtyping import Bool, Float32, UInt8

_FINE, _COARSE = 0.6, 2.0  # standard deviations in pixels of a photo up to 400 pixels long
_STRONGEST = 0.1
_MARGIN = 0.015  # of the longest side: how far from the outline the edges of both sides mix
_FLAT = 1.0  # levels of 255 per pixel: slopes below are noise


class Sharpness(NamedTuple):
    """Ratio of an edge's slope to its slope after reblurring: about 1 out of focus, above 1.5 in focus.

    Attributes:
        typical: median over the strongest tenth of the edges.
        most: the ninth decile, which small sharp things in a soft surrounding raise.
    """

    typical: float
    most: float


def edge_ratios(image: UInt8[np.ndarray, "h w 3"]) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Slope before over slope after reblurring, and the latter, in levels per pixel."""
    grey = image.astype(np.float32).mean(axis=-1)
    scale = max(max(grey.shape) / 400, 1)  # no edge is finer than a pixel
    fine, coarse = (scipy.ndimage.gaussian_gradient_magnitude(grey, sigma * scale) for sigma in (_FINE, _COARSE))
    return fine / np.maximum(coarse, np.float32(0.1)), coarse


def region_sharpness(image: UInt8[np.ndarray, "h w 3"], *regions: Bool[np.ndarray, "h w"]) -> list[Sharpness | None]:
    """Sharpness of parts of a photo. None where a part is too small or too flat to tell.

    Args:
        image: sRGB, 0–255.
        regions: what to look at; a margin along their outlines and the photo's border is left out.
    """
    ratios, slopes = edge_ratios(image)
    margin = max(2, round(_MARGIN * max(slopes.shape)))
    found = []
    for region in regions:
        inner = scipy.ndimage.binary_erosion(region, iterations=margin)
        if inner.sum() < 200:
            found.append(None)
            continue
        edges = inner & (slopes >= max(np.quantile(slopes[inner], 1 - _STRONGEST), _FLAT))
        if edges.sum() < 20:
            found.append(None)
            continue
        found.append(Sharpness(float(np.median(ratios[edges])), float(np.quantile(ratios[edges], 0.9))))
    return found
