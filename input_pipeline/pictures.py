"""What every reader of pictures shares: which files they are, and 8-bit pixels of any of their kinds."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}

BROKEN = (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for files that it cannot decode, or will not because of their size."""


def to_8_bit(picture: Image.Image) -> Image.Image:
    """A 16-bit grey picture scaled to 8 bits, where Pillow would clip it at 255; any other as it is."""
    if not picture.mode.startswith("I;16"):
        return picture
    return Image.fromarray(np.rint(np.asarray(picture) / 257).astype(np.uint8))


def pixels(picture: Image.Image, mode: str) -> UInt8[np.ndarray, "h w *channels"]:
    """``RGB`` as ``[h, w, 3]``, ``L`` as ``[h, w]``, 0–255, of a picture of any mode; transparency is dropped."""
    return np.array(to_8_bit(picture).convert(mode))
