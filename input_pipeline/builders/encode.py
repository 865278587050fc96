"""Bytes of a photo and of its mask, as they are stored: original where possible, else as PNG.

No EXIF orientation is applied, neither to the photo nor to its mask: the files of these datasets carry none,
and turning only one of the two would tear a pair apart.
"""

import io
from collections.abc import Sequence

from absl import logging
from PIL import Image

from input_pipeline.builders.files import Picture
from input_pipeline.pictures import over_white, pixels, require_upright
from input_pipeline.records import DataError

Size = tuple[int, int]


def encode_image(picture: Picture) -> tuple[bytes, Size]:
    """An RGB photo: JPEG and PNG files unchanged, any other format or colour mode as RGB PNG, transparent as white.

    Returns:
        The encoded bytes and the size ``(w, h)``.

    Raises:
        DataError: not a readable picture.
    """
    data, image = _open(picture)
    if image.mode == "RGB" and image.format in ("JPEG", "PNG"):
        return data, image.size
    return _png(over_white(image).convert("RGB")), image.size


def encode_mask(candidates: Sequence[Picture], size: Size, mend: bool) -> bytes:
    """A mask as 8-bit grey PNG of the photo's size; grey levels are kept, alpha is dropped.

    Args:
        candidates: files of the photo's stem, best first. The first of the photo's size is taken: where a
            wrong mask was corrected beside the old file, both may still lie in the folder.
        size: the photo's ``(w, h)``.
        mend: resize (nearest) a mask of another size instead of raising.

    Returns:
        The encoded bytes.

    Raises:
        DataError: not a readable picture, see ``pixels``, or of another size than the photo.
    """
    opened = [_open(picture) for picture in candidates]
    fitting = [index for index, (_, mask) in enumerate(opened) if mask.size == size]
    chosen = fitting[0] if fitting else 0
    where = candidates[chosen].where
    data, mask = opened[chosen]
    kept = mask.mode == "L" and mask.format == "PNG"
    try:
        grey = mask if mask.mode == "L" else Image.fromarray(pixels(mask, "L"))
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    if not fitting:
        sizes = "its mask is {}×{}, the photo {}×{}".format(*grey.size, *size)
        if not mend:
            raise DataError(f"{where}: {sizes}; the pair does not belong together")
        logging.warning("%s: %s; resized the mask", where, sizes)
        return _png(grey.resize(size, Image.Resampling.NEAREST))
    lightest = grey.getextrema()[1]
    if 0 < lightest < 128:
        logging.warning("%s: the lightest pixel is %d of 255, so no pixel counts as white", where, lightest)
    return data if kept else _png(grey)


def _open(picture: Picture) -> tuple[bytes, Image.Image]:
    try:
        data = picture.read()
        image = Image.open(io.BytesIO(data))
        require_upright(image)
        image.load()
    # Pillow's decoders and zipfile raise many kinds of errors on broken files.
    except Exception as error:
        raise DataError(f"{picture.where} is not a readable picture ({error})") from error
    return data, image


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
