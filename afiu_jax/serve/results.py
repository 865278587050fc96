"""What the page shows of a photo: pictures, files to keep, and words."""

import tempfile
import time
import warnings
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from afiu_jax.errors import UserError
from afiu_jax.inference import Predictor
from afiu_jax.maps import to_8_bit
from afiu_jax.views import View, render, with_profile
from input_pipeline.pictures import BROKEN, colour_profile, read_photo
from input_pipeline.records import Meaning

MARKED: dict[Meaning, str] = {"blur": "what is out of focus", "salient": "the salient object"}
"""What white means in a map."""

FILES: dict[View, str] = {"map": "{}.png", "overlay": "{}.overlay.png", "cutout": "{}.cutout.png"}
"""The views to keep, with the names of their files, which the photo's stem completes."""

_HEADLINES: dict[Meaning, str] = {
    "blur": "{:.0f} % of the photo is out of focus",
    "salient": "The salient object covers {:.0f} % of the photo",
}
_KINDS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")  # those of EXTENSIONS; for others, Pillow may start programs
_PREVIEW = 1600  # pixels


class Result(NamedTuple):
    """What there is to show of a photo.

    Attributes:
        previews: the photo and its views, no larger than a screen.
        files: the views as PNG at the photo's own size.
        headline: the mean of the map, in words.
        details: size, network and time, in words.
    """

    previews: dict[View | Literal["photo"], Image.Image]
    files: dict[View, Path]
    headline: str
    details: str


def read(path: Path, name: str, max_megapixels: int) -> tuple[UInt8[np.ndarray, "h w 3"], bytes | None]:
    """Decodes a photo that anybody may have sent, and gives its ICC profile, see ``colour_profile``.

    Args:
        path: the file.
        name: what its owner calls it, for messages.
        max_megapixels: what is accepted, by the file's header, before anything is decoded.

    Raises:
        UserError: no picture, a damaged one, or one with too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is ours
            with Image.open(path, formats=_KINDS) as picture:
                fits = picture.width * picture.height <= max_megapixels * 10**6
        if fits:
            return read_photo(path), colour_profile(path)
    except Image.DecompressionBombError:
        pass  # a limit of Pillow's, which is larger than any of ours
    except FileNotFoundError:
        raise UserError(f"{name} was deleted here in the meantime: drop it again") from None
    except UnidentifiedImageError:
        raise UserError(f"{name} is no picture that can be read here: give a JPEG, PNG, TIFF, WebP or BMP") from None
    except BROKEN as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{name} is damaged ({cause}): give another copy of it") from error
    raise UserError(f"{name} has more than {max_megapixels} megapixels: give a smaller copy of it")


def make(
    photo: UInt8[np.ndarray, "h w 3"], stem: str, predictor: Predictor, folder: Path, profile: bytes | None = None
) -> Result:
    """Finds the map of a photo and draws its views.

    Args:
        photo: RGB.
        stem: of the files' names.
        predictor: the network.
        folder: the files go into a new folder in this one.
        profile: ICC profile of the photo, which its views keep.
    """
    started = time.perf_counter()
    found = to_8_bit(predictor.predict(photo))
    seconds = time.perf_counter() - started
    out = Path(tempfile.mkdtemp(dir=folder))
    previews: dict[View | Literal["photo"], Image.Image] = {
        "photo": _preview(with_profile(Image.fromarray(photo), profile))
    }
    files: dict[View, Path] = {}
    for view, name in FILES.items():
        picture = render(view, photo, found, predictor.positive, profile)
        files[view] = out / name.format(stem)
        picture.save(files[view], "PNG", compress_level=1)  # a sixth of the time of 6, for a seventh more bytes
        previews[view] = _preview(picture)
    height, width = found.shape
    headline = _HEADLINES[predictor.positive].format(100 * found.mean() / 255)
    return Result(previews, files, headline, f"{width} × {height} pixels · {predictor.name} · {seconds:.1f} s")


def _preview(picture: Image.Image) -> Image.Image:
    picture.thumbnail((_PREVIEW, _PREVIEW))
    return picture
