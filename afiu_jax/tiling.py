"""Maps of photos at their own size, with bounded memory: padded to what a network takes, large ones in tiles."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from afiu_jax.networks.sizes import LegalSizes

TILE = 640
"""Longest side, in pixels, that goes through a network in one piece; of the order of what it was trained on."""

OVERLAP = 128
"""Pixels that neighbouring tiles share at least. Their maps are blended there, so that no seam shows."""

Run = Callable[[Float32[np.ndarray, "n h w 3"]], Float32[np.ndarray, "n h w"]]


def native_maps(
    run: Run, images: Float32[np.ndarray, "n h w 3"], sizes: LegalSizes, tile: int = TILE, overlap: int = OVERLAP
) -> Float32[np.ndarray, "n h w"]:
    """Maps of photos of one size, at that size.

    Args:
        run: normalised images of a legal size to maps in 0…1.
        images: normalised.
        sizes: what the network takes.
        tile: longest side that is given to ``run``, or the nearest legal one below.
        overlap: pixels that neighbouring tiles share at least; less than ``tile``.
    """
    size = images.shape[1:3]
    extents = tuple(min(sizes.nearest(side)[1], sizes.nearest(tile)[0]) for side in size)
    padding = [(0, max(extent - side, 0)) for extent, side in zip(extents, size, strict=True)]
    # Reflected, since a hard edge to black would look sharp.
    padded = np.pad(images, [(0, 0), *padding, (0, 0)], mode="symmetric")
    total = np.zeros(padded.shape[:3], np.float32)
    weights = np.zeros(padded.shape[1:3], np.float32)
    rows, columns = (starts(side, extent, overlap) for side, extent in zip(padded.shape[1:3], extents, strict=True))
    window = np.outer(*(ramp(extent, overlap) for extent in extents))
    for top in rows:
        for left in columns:
            here = (slice(top, top + extents[0]), slice(left, left + extents[1]))
            total[:, *here] += window * run(padded[:, *here])
            weights[here] += window
    return (total / weights)[:, : size[0], : size[1]]


def starts(side: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin that cover ``side`` pixels evenly; one if it is no longer than a tile."""
    count = 1 if side <= tile else -(-(side - overlap) // (tile - overlap))
    return [round(start) for start in np.linspace(0, side - tile, count)]


def ramp(tile: int, overlap: int) -> Float32[np.ndarray, " tile"]:
    """Weights of a tile along one axis: 1 inside, falling linearly over ``overlap`` to almost 0 at either end."""
    distance = np.minimum(np.arange(tile), np.arange(tile)[::-1]) + 0.5
    return np.minimum(distance / overlap, 1).astype(np.float32)
