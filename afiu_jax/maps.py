"""Maps as arrays on the host, where every photo has a size of its own."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8, UInt16
from PIL import Image

from afiu_jax.errors import UserError
from afiu_jax.layers import interpolation_matrix
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


def map_writer(out: Path, inputs: Sequence[Path] = ()) -> Callable[[Record, UInt8[np.ndarray, "h w"]], None]:
    """A function ``(record, map)`` that writes ``out/<id>.png``; the folder is made.

    Args:
        out: folder of the maps.
        inputs: files that must not be written over.

    Raises:
        UserError: a map would replace an input.
    """
    for file in inputs:
        if (out / f"{file.stem}.png").resolve() == file.resolve():
            raise UserError(f"the map of {file} would replace it: name another folder with -o")
    out.mkdir(parents=True, exist_ok=True)

    def save(record: Record, found: UInt8[np.ndarray, "h w"]) -> None:
        Image.fromarray(found).save(out / f"{record['id']}.png")

    return save
