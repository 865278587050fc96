"""Defocus composited into the photos of a salient-object data set.

Real defocus data is scarce: the paper's sets hold 704 and 500 photos. Salient-object sets hold thousands,
each with the outline of something that a photographer might focus on. That is enough to render a shallow
depth of field and its blur mask.
"""

import hashlib
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float32
from PIL import Image, ImageFilter

from input_pipeline import optics
from input_pipeline.records import DataError, Meaning, Record, Source

Focus = Literal["subject", "reverse", "plane", "all_sharp", "all_blurred"]
"""Where the lens focuses: the salient object, what is behind it, a tilted plane, everywhere or nowhere."""

SHARES: Mapping[Focus, float] = {
    "subject": 0.60,
    "reverse": 0.15,
    "plane": 0.15,
    "all_sharp": 0.05,
    "all_blurred": 0.05,
}
"""How often each focus is drawn, unless told otherwise."""

RADIUS = (0.004, 0.035)
"""Range of the blur radius relative to the photo's longest side, unless told otherwise."""

_WITHOUT_SUBJECT = ("plane", "all_sharp", "all_blurred")


class Bokeh:
    """A `Source` of defocus blur detection made from a source of salient object detection.

    Index ``i`` is photo ``i`` of the wrapped source at its own size. Focus is drawn per photo:

    - ``subject`` 60 %: on the salient object; all else is blurred.
    - ``reverse`` 15 %: on the background; the salient object is blurred before it.
    - ``plane`` 15 %: on a band across the picture, tilted by some 15° (one standard deviation) from the rows,
      whatever the subject; blur grows with the distance from it.
    - ``all_sharp`` 5 % and ``all_blurred`` 5 %.

    A photo whose mask is empty or full takes one of the last three. Everything drawn depends on ``seed`` and
    the record's id alone.

    Blur is a lens's: a disk in linear light. Neither layer leaves a halo in the other, because each is
    continued behind the other before it is blurred. The mask follows the wrapped source's outline, so errors
    of that outline, and defocus that the photo already had, become errors of the composite.

    Attributes:
        white: ``"blur"``: 255 marks a local blur radius of at least ``threshold``; the mask has no other
            values than 0 and 255.

    Args:
        source: masks must mark the salient object.
        seed: another number gives other composites of the same photos.
        shares: how often each `Focus` is drawn, in proportion to their sum; absent ones are never drawn.
        radius: range of the blur radius relative to the photo's longest side, drawn log-uniformly per photo.
            For a plane, this is the radius at the farthest corner.
        threshold: smallest radius, relative to the longest side, that counts as blurred; 0.25 % is one pixel
            of a 400 px photo.
        noise: range of the sensor noise added after the blur, drawn uniformly per photo: standard deviation
            in levels of 255. Blurred areas would be conspicuously clean without it.

    Raises:
        DataError: the wrapped masks mark something other than the salient object.
        ValueError: a share, radius, threshold or noise out of range.
    """

    white: Meaning = "blur"

    def __init__(
        self,
        source: Source,
        seed: int = 0,
        *,
        shares: Mapping[Focus | str, float] = SHARES,
        radius: tuple[float, float] = RADIUS,
        threshold: float = 0.0025,
        noise: tuple[float, float] = (0.5, 3.0),
    ) -> None:
        if source.white != "salient":
            raise DataError(
                f"defocus can be composited from salient-object masks only, and here white means "
                f"{source.white!r}: declare white='salient' if that is what the files hold"
            )
        if unknown := set(shares) - set(get_args(Focus)):
            raise ValueError(f"unknown focus in shares: {sorted(unknown)}; known: {list(get_args(Focus))}")
        if min(shares.values(), default=0) < 0 or sum(shares.values()) <= 0:
            raise ValueError(f"shares must be at least 0 and not all 0, got {dict(shares)}")
        if not 0 < threshold <= radius[0] <= radius[1]:
            raise ValueError(f"need 0 < threshold <= radius range, got {threshold} and {radius}")
        if not 0 <= noise[0] <= noise[1]:
            raise ValueError(f"need 0 <= noise range, got {noise}")
        self.source = source
        self.seed = seed
        self.shares = dict(shares)
        self.radius = radius
        self.threshold = threshold
        self.noise = noise

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        """Composite one photo. Raises whatever the wrapped source raises."""
        record = self.source[index]
        subject = record["mask"] >= 128
        digest = hashlib.sha256(record["id"].encode()).digest()
        rng = np.random.default_rng([self.seed, *np.frombuffer(digest, np.uint32).tolist()])

        focus = self._draw_focus(rng, has_subject=bool(subject.any() and not subject.all()))
        longest = max(subject.shape)
        low, high = np.log(self.radius)
        radius = longest * float(np.exp(rng.uniform(low, high)))
        noise = rng.uniform(*self.noise)

        image = optics.decode_srgb(record["image"])
        if focus == "subject":
            image, local = focus_on_subject(image, subject, radius)
        elif focus == "reverse":
            image, local = focus_behind_subject(image, subject, radius)
        elif focus == "plane":
            local = _ramp(rng, subject.shape, radius)
            image = optics.blur_varying(image, local)
        else:
            local = np.full(subject.shape, radius if focus == "all_blurred" else 0, np.float32)
            image = optics.blur(image, float(local[0, 0]))

        blurred = local >= np.float32(self.threshold * longest)
        return Record(image=optics.expose(image, noise, rng), mask=blurred * np.uint8(255), id=record["id"])

    def _draw_focus(self, rng: np.random.Generator, has_subject: bool) -> Focus:
        names = [name for name in self.shares if has_subject or name in _WITHOUT_SUBJECT]
        shares = np.array([self.shares[name] for name in names])
        drawn = rng.random()  # drawn in any case: what follows must not depend on the mask
        if shares.sum() == 0:
            return "plane"
        return names[int(np.searchsorted(np.cumsum(shares) / shares.sum(), drawn, side="right"))]


def focus_on_subject(
    image: Float32[np.ndarray, "h w 3"], subject: Bool[np.ndarray, "h w"], radius: float
) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"]]:
    """Keep the subject sharp and put everything else out of focus.

    Args:
        image: linear light.
        subject: the sharp object; neither empty nor full.
        radius: of the blur, in pixels.

    Returns:
        The picture, and the blur radius of each pixel.
    """
    background = optics.blur(_without(image, subject), radius)
    front = _soft(subject)[..., None]
    return front * image + (1 - front) * background, np.where(subject, np.float32(0), np.float32(radius))


def focus_behind_subject(
    image: Float32[np.ndarray, "h w 3"], subject: Bool[np.ndarray, "h w"], radius: float
) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"]]:
    """Put the subject out of focus before a sharp background, over which its edge bleeds.

    Arguments and result as of `focus_on_subject`. The light that bleeds past the outline does not count as
    blurred: what shows there is the sharp background still.
    """
    matte = _soft(subject)[..., None]
    front = np.concatenate([_without(image, ~subject) * matte, matte], axis=-1)
    image = optics.over(optics.blur(front, radius), _without(image, subject))
    return image, np.where(subject, np.float32(radius), np.float32(0))


def _soft(subject: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """The outline with an edge one pixel wide."""
    padded = np.pad(subject.astype(np.float32), 1, mode="edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    return (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 16


def _without(image: Float32[np.ndarray, "h w 3"], hidden: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w 3"]:
    """Replace what ``hidden`` marks by a continuation of the rest.

    So is a rim of 0.5 % of the longest side, at least 2 pixels, whose pixels may hold light of both.
    """
    rim = max(2, round(0.005 * max(hidden.shape)))
    grown = Image.fromarray(hidden * np.uint8(255)).filter(ImageFilter.MaxFilter(2 * rim + 1))
    clean = np.asarray(grown) < 128
    if not clean.any():  # too thin to have anything but a rim
        clean = ~hidden
    return optics.extend(image, clean.astype(np.float32))


def _ramp(rng: np.random.Generator, shape: tuple[int, int], radius: float) -> Float32[np.ndarray, "h w"]:
    """Blur radius over a tilted plane.

    Beyond the depth of field, 5 to 20 % of the height to each side of the line of focus, it grows linearly
    with the distance in the picture, as on any plane.
    """
    h, w = shape
    angle = rng.normal(0, 0.25)
    y, x = np.mgrid[:h, :w]
    across = np.cos(angle) * (y - rng.uniform(0.15, 0.85) * h) + np.sin(angle) * (x - w / 2)
    distance = np.maximum(np.abs(across) - rng.uniform(0.05, 0.2) * h, 0)
    return (radius * distance / max(distance.max(), 1)).astype(np.float32)
