"""Maps as arrays on the host, where every photo has a size of its own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8, UInt16
from PIL import Image

from afiu_jax.layers import interpolation_matrix
from afiu_jax.own_pictures import own_folder, save
from input_pipeline.records import Record


def resize_map(found: Float[np.ndarray, "h w"], size: tuple[int, int]) -> Float[np.ndarray, "h2 w2"]:
    """Bilinear resize of one map."""
    rows, columns = (interpolation_matrix(old, new) for old, new in zip(found.shape, size, strict=True))
    return rows @ found @ columns.T


def to_8_bit(found: Float[np.ndarray, "h w *c"]) -> UInt8[np.ndarray, "h w *c"]:
    """A map in 0…1 as it stands on disk, rounded to 0–255."""
    return np.rint(np.clip(found, 0, 1) * 255).astype(np.uint8)


def to_16_bit(found: Float[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h w"]:
    """A map in 0…1, rounded to 0–65535: as good as unrounded for any score."""
    return np.rint(np.clip(found, 0, 1) * 65535).astype(np.uint16)


def map_writer(out: Path, about: str) -> Callable[[Record, UInt8[np.ndarray, "h w"]], None]:
    """A function ``(record, map)`` that writes ``out/<id>.png``; the folder is made.

    Args:
        out: folder of the maps.
        about: what makes them, see ``Predictor.about``.

    Raises:
        UserError: the folder holds pictures that are not of this program.
    """
    own_folder(out)
    return lambda record, found: save(Image.fromarray(found), out / f"{record['id']}.png", about)
