"""What every reader of pictures shares: which files they are, and 8-bit pixels of any of their kinds."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""Of the files that are read as pictures, lower case. Of two files of one photo, the first of these is the photo."""

BROKEN = (
    OSError,
    UnidentifiedImageError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
    # From the depths of decoders, for files that are damaged in ways that those do not check:
    EOFError,
    LookupError,
    TypeError,
    struct.error,
    zlib.error,
)
"""What Pillow raises for files that it cannot decode, or will not because of their size (179 megapixels)."""


def to_8_bit(picture: Image.Image) -> Image.Image:
    """A 16-bit grey picture scaled to 8 bits, where Pillow would clip it at 255; any other as it is."""
    if not picture.mode.startswith("I;16"):
        return picture
    return Image.fromarray(np.rint(np.asarray(picture) / 257).astype(np.uint8))


def pixels(picture: Image.Image, mode: str) -> UInt8[np.ndarray, "h w *channels"]:
    """``RGB`` as ``[h, w, 3]``, ``L`` as ``[h, w]``, 0–255, of a picture of 8 or 16 bits; transparency is dropped.

    Raises:
        ValueError: numbers of 32 bits, whose range nothing tells, and which Pillow would clip at 255; for ``L``, a
            picture of one grey in which only the transparency says anything.
    """
    if picture.mode in ("I", "F"):
        raise ValueError("it holds numbers of 32 bits, whose range nothing tells; save it with 8 or 16")
    found = np.array(to_8_bit(picture).convert(mode))
    if mode == "L" and picture.has_transparency_data and found.min() == found.max():
        least, most = picture.convert("RGBA").getchannel("A").getextrema()
        if least < most:
            raise ValueError("only its transparency marks anything; save that as a grey picture")
    return found


def over_white(picture: Image.Image) -> Image.Image:
    """A photo of at most 16 bits with white where it is transparent; any other picture as it is."""
    picture = to_8_bit(picture)
    if picture.mode in ("I", "F") or not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def require_upright(picture: Image.Image) -> None:
    """Returns if a picture's pixels are read as they are stored, whatever its EXIF data says.

    Raises:
        ValueError: a TIFF that is to be turned, which Pillow does by itself.
    """
    if picture.format == "TIFF" and picture.getexif().get(ExifTags.Base.Orientation) in range(2, 9):
        raise ValueError("it is a TIFF that is to be turned before it is seen; save it upright")


def mask_pixels(picture: Image.Image) -> tuple[UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w 3"]]:
    """A mask as ``pixels`` gives it, and with the colours that it should not have; decoded once.

    Raises:
        ValueError: see ``pixels``.
    """
    picture.load()
    grey = pixels(picture, "L")
    if picture.mode in ("1", "L", "I;16"):
        return grey, np.broadcast_to(grey[..., None], (*grey.shape, 3))
    return grey, pixels(picture, "RGB")


def read_photo(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a photo as it is seen; see ``photo_pixels``.

    Raises:
        Exception: one of ``BROKEN``.
    """
    with _opened(path) as picture:
        return photo_pixels(picture)


def colour_profile(path: Path) -> bytes | None:
    """The ICC profile of what ``read_photo`` gives; None if the file has none.

    One of other colours than RGB, grey or CMYK, is not that of the pixels that these were converted to.

    Raises:
        Exception: one of ``BROKEN``.
    """
    with _opened(path) as picture:
        return picture.info.get("icc_profile") if picture.mode in ("RGB", "RGBA", "P") else None


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large, but not refused
        with Image.open(path) as picture:
            yield picture


def photo_pixels(picture: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """RGB of a picture as it is seen: turned as its EXIF data says, white where it is transparent.

    In files of 32 bits, which do not say what values range over, white is 1 (floating-point values, all below 2), else
    the least of 255 and 65535 that none exceeds, else the largest value.
    """
    _decode(picture)
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(picture, np.float32))
        largest = values.max(initial=0)
        # Resampling and highlights reach a little beyond 1: taken for one of 255, such a picture would be black.
        peak = 1.0 if largest < 2 else next((peak for peak in (255.0, 65535.0) if largest <= peak), float(largest))
        if picture.mode == "I":
            peak = max(peak, 255.0)
        picture = Image.fromarray(np.rint((values / np.float32(peak)).clip(0, 1) * 255).astype(np.uint8))
    return pixels(over_white(picture), "RGB")


def _decode(picture: Image.Image) -> None:
    """Reads the pixels of a file that was opened.

    Pillow maps files of which it knows the name into memory, and takes a turned TIFF's rows for its columns there.
    """
    if isinstance(picture, ImageFile.ImageFile):
        name, picture.filename = picture.filename, ""
        try:
            picture.load()
        finally:
            picture.filename = name
