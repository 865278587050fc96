"""Pictures that people look at, from a photo and its map."""

from typing import Literal, get_args

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from input_pipeline.records import Meaning

View = Literal["map", "overlay", "cutout", "side-by-side"]
"""``map``: the map; ``overlay``: the photo with what the map marks in colour; ``cutout``: what is in focus, or the
salient object, on transparent ground; ``side-by-side``: photo and map."""

VIEWS: tuple[View, ...] = get_args(View)

_COLOUR = {"blur": (255, 60, 0), "salient": (0, 150, 255), "focus": (0, 150, 255)}
_STRENGTH = 0.65
_GAP = 8  # pixels


def render(
    view: View,
    photo: UInt8[np.ndarray, "h w 3"],
    found: UInt8[np.ndarray, "h w"],
    positive: Meaning,
    profile: bytes | None = None,
) -> Image.Image:
    """One view of a photo.

    Args:
        view: which.
        photo: RGB.
        found: its map, 0–255.
        positive: what 255 means in the map.
        profile: ICC profile of the photo, which its colours in every view but the map keep.

    Returns:
        An image of mode L (map), RGB, or RGBA (cut-out) of the photo's size; side by side, of twice its width or
        height, whichever is the less.
    """
    if view == "map":
        return Image.fromarray(found)
    return with_profile(_in_colours(view, photo, found, positive), profile)


def with_profile(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """The same picture, with which Pillow will save this ICC profile."""
    picture.info["icc_profile"] = profile
    return picture


def _in_colours(
    view: View, photo: UInt8[np.ndarray, "h w 3"], found: UInt8[np.ndarray, "h w"], positive: Meaning
) -> Image.Image:
    if view == "overlay":
        tint = Image.new("RGB", (found.shape[1], found.shape[0]), _COLOUR[positive])
        strength = Image.fromarray(found).point(lambda value: round(value * _STRENGTH))
        return Image.composite(tint, Image.fromarray(photo), strength)
    if view == "cutout":
        cutout = Image.fromarray(photo)
        cutout.putalpha(Image.fromarray(255 - found if positive == "blur" else found))
        return cutout
    h, w = found.shape
    beside = w <= h * 1.5
    size, place = ((2 * w + _GAP, h), (w + _GAP, 0)) if beside else ((w, 2 * h + _GAP), (0, h + _GAP))
    picture = Image.new("RGB", size, "white")
    picture.paste(Image.fromarray(photo), (0, 0))
    picture.paste(Image.fromarray(found).convert("RGB"), place)
    return picture
