"""Defocus composited into the photos of a salient-object data set.

Real defocus data is scarce: the paper's sets hold 704 and 500 photos. Salient-object sets hold thousands,
each with the outline of something that a photographer might focus on. That is enough to render a shallow
depth of field and its blur mask.
"""

import hashlib
import io
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from input_pipeline import focus as lens
from input_pipeline import optics
from input_pipeline.records import DataError, Meaning, Record, Source
from input_pipeline.sharpness import Sharpness, region_sharpness

Focus = Literal["subject", "standing", "reverse", "plane", "all_sharp", "all_blurred"]
"""Where the lens focuses: the salient object, it and the ground where it stands, what is behind it, a tilted plane,
everywhere or nowhere."""

SHARES: Mapping[Focus, float] = {
    "subject": 0.45,
    "standing": 0.25,
    "reverse": 0.10,
    "plane": 0.10,
    "all_sharp": 0.05,
    "all_blurred": 0.05,
}
"""How often each focus is drawn, unless told otherwise."""

RADIUS = (0.003, 0.035)
"""Range of the blur radius relative to the photo's longest side, unless told otherwise."""

_WITHOUT_SUBJECT = ("plane", "all_sharp", "all_blurred")
_SHARP_SUBJECT = ("subject", "standing", "all_sharp")
_SHARP_REST = ("reverse", "plane", "all_sharp")
_IN_FOCUS = 1.4  # typical sharpness from here on; this and the next by eye, on 80 photos of MSRA10K
_OUT_OF_FOCUS = Sharpness(typical=1.25, most=2.2)  # less than both


class Bokeh:
    """A `Source` of defocus blur detection made from a source of salient object detection.

    Index ``i`` is photo ``i`` of the wrapped source at its own size. Focus is drawn per photo:

    - ``subject`` 45 %: on the salient object; all else is blurred alike.
    - ``standing`` 25 %: on the salient object and the ground where it stands; blur grows from there up to a horizon
      and towards the viewer.
    - ``reverse`` 10 %: on the background; the salient object is blurred before it.
    - ``plane`` 10 %: on a band across the picture, whatever the subject; blur grows with the distance from it.
    - ``all_sharp`` 5 % and ``all_blurred`` 5 %.

    A photo whose mask is empty or full takes one of the last three. Everything drawn depends on ``seed`` and
    the record's id alone.

    Photos come with defocus of their own, and what is out of focus already must not be called sharp: a focus that
    needs a sharp subject or a sharp background is drawn only for photos that have it (`sharpness`), unless
    ``shares`` leaves nothing else. Where the subject is in focus and everything else clearly is not, the photo is
    a defocus photo as it stands, real blur with a known outline: ``natural`` of these are taken unchanged.

    Blur is a lens's: a disk in linear light. The mask follows the wrapped source's outline, so errors of that
    outline become errors of the composite. Noise and compression come after the blur, as in a camera.

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
        natural: probability that a photo with defocus of its own is taken as it is.
        jpeg: range of the JPEG quality, 1–100, at which the result is compressed; None: it is not.

    Raises:
        DataError: the wrapped masks mark something other than the salient object.
        ValueError: a share, radius, threshold, noise, probability or quality out of range.
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
        natural: float = 0.75,
        jpeg: tuple[int, int] | None = (60, 95),
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
        if not 0 <= natural <= 1:
            raise ValueError(f"natural is a probability, got {natural}")
        if jpeg is not None and not 1 <= jpeg[0] <= jpeg[1] <= 100:
            raise ValueError(f"jpeg is a range of qualities within 1–100, got {jpeg}")
        self.source = source
        self.seed = seed
        self.shares = dict(shares)
        self.radius = radius
        self.threshold = threshold
        self.noise = noise
        self.natural = natural
        self.jpeg = jpeg

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        """Composite one photo. Raises whatever the wrapped source raises."""
        record = self.source[index]
        subject = record["mask"] >= 128
        digest = hashlib.sha256(record["id"].encode()).digest()
        rng = np.random.default_rng([self.seed, *np.frombuffer(digest, np.uint32).tolist()])
        # What is drawn in any case comes first: it must not depend on the photo.
        as_it_is, which = rng.random(2)
        longest = max(subject.shape)
        low, high = np.log(self.radius)
        radius = longest * float(np.exp(rng.uniform(low, high)))
        noise = rng.uniform(*self.noise)
        quality = None if self.jpeg is None else int(rng.integers(self.jpeg[0], self.jpeg[1] + 1))

        has_subject = bool(subject.any() and not subject.all())
        front, rest = region_sharpness(record["image"], subject, ~subject) if has_subject else (None, None)
        if has_subject and as_it_is < self.natural and _is_defocus_photo(front, rest):
            return Record(image=record["image"], mask=~subject * np.uint8(255), id=record["id"])
        focus = self._choose(which, has_subject, front, rest)
        image, local = _render(focus, optics.decode_srgb(record["image"]), subject, radius, rng)
        blurred = local >= np.float32(self.threshold * longest)
        image = optics.expose(image, noise, rng)
        return Record(image=_compress(image, quality), mask=blurred * np.uint8(255), id=record["id"])

    def _choose(self, drawn: float, has_subject: bool, front: Sharpness | None, rest: Sharpness | None) -> Focus:
        names = [name for name in self.shares if has_subject or name in _WITHOUT_SUBJECT]
        unfit = set()
        if has_subject and not _in_focus(front):
            unfit.update(_SHARP_SUBJECT)
        if has_subject and not _in_focus(rest):
            unfit.update(_SHARP_REST)
        if sum(self.shares[name] for name in names if name not in unfit) > 0:
            names = [name for name in names if name not in unfit]
        shares = np.array([self.shares[name] for name in names])
        if shares.sum() == 0:
            return "plane"
        return names[int(np.searchsorted(np.cumsum(shares) / shares.sum(), drawn, side="right"))]


def _in_focus(part: Sharpness | None) -> bool:
    return part is not None and part.typical >= _IN_FOCUS


def _is_defocus_photo(front: Sharpness | None, rest: Sharpness | None) -> bool:
    soft = rest is not None and rest.typical < _OUT_OF_FOCUS.typical and rest.most < _OUT_OF_FOCUS.most
    return soft and _in_focus(front)


def _render(focus: Focus, image, subject: Bool[np.ndarray, "h w"], radius: float, rng: np.random.Generator):
    """The picture in linear light and its blur radii; see `Bokeh` and `focus`."""
    if focus == "subject":
        return lens.focus_on_subject(image, subject, radius)
    if focus == "standing":
        return lens.focus_on_standing_subject(image, subject, radius, rng)
    if focus == "reverse":
        return lens.focus_behind_subject(image, subject, radius)
    if focus == "plane":
        local = lens.tilted_plane(rng, subject.shape, radius)
        return optics.blur_varying(image, local), local
    local = np.full(subject.shape, radius if focus == "all_blurred" else 0, np.float32)
    return optics.blur(image, float(local[0, 0])), local


def _compress(image: UInt8[np.ndarray, "h w 3"], quality: int | None) -> UInt8[np.ndarray, "h w 3"]:
    if quality is None:
        return image
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
