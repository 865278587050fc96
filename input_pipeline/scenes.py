"""Generated scenes: photo-like pictures with exact saliency and blur masks, needing no files.

Flat textured layers stand at depths before a thin lens. They are painted from back to front, each blurred
with its own circle of confusion and its coverage along with it, so that near blur bleeds over what is behind
and far blur continues behind what is near.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
import scipy  # its parts, which take a while to load, are loaded where they are first used
from jaxtyping import Float32, Float64
from PIL import Image, ImageDraw

from input_pipeline import optics
from input_pipeline.records import DataError, Meaning, Record

LENGTHS = {"train": 2000, "val": 200, "test": 200}
"""The splits and their default lengths."""

Focus = Literal["subject", "background", "between", "deep", "miss"]
_SHARES: dict[Focus, float] = {
    "subject": 0.60,
    "background": 0.15,
    "between": 0.10,
    "deep": 0.08,
    "miss": 0.07,
}

_SUPERSAMPLING = 3
_NATIVE = 160  # the side at which lengths in pixels are meant; other sides scale them


class Scenes:
    """A `Source` of generated scenes, the same picture for the same index whatever ``white`` is.

    One to three textured salient objects stand near the middle before a textured background strewn with small
    elements; more small elements stand half way in most scenes. The textures and colours of all of them are
    drawn alike: what makes an object salient is its size, place and contrast. Focus is drawn per scene:

    - ``subject`` 60 %: on the nearest salient object; the background is blurred, and so is a second object
      that stands farther away (in one scene of four).
    - ``background`` 15 %: on the background; the salient objects are blurred.
    - ``between`` 10 %: half way; the background and all objects that do not stand there are blurred.
    - ``deep`` 8 %: a small aperture; everything is sharp.
    - ``miss`` 7 %: before everything; everything is blurred.

    A pixel counts as blurred where the circle of confusion of the surface seen there has a radius of at least
    0.5 % of the shorter side (0.8 px of 160). Layers keep clear of that limit: radii are below 0.3 %, or from
    1.2 to 6 %.

    Attributes:
        white: as given. Masks hold 0 and 255 only; ``"focus"`` is the reverse of ``"blur"``.

    Args:
        white: what 255 marks: the salient objects, blur, or focus.
        split: one of `LENGTHS`. Splits share no scene.
        size: side in pixels, or (height, width); at least 32.
        seed: another number gives other scenes.
        length: number of scenes; the split's of `LENGTHS` unless told.

    Raises:
        DataError: unknown ``white`` or ``split``, or a size or length out of range.
    """

    def __init__(
        self,
        white: Meaning | str,
        split: str = "train",
        size: int | tuple[int, int] = _NATIVE,
        seed: int = 0,
        length: int | None = None,
    ) -> None:
        if white not in get_args(Meaning):
            raise DataError(f"scenes have no masks of {white!r}; choose one of {', '.join(get_args(Meaning))}")
        if split not in LENGTHS:
            raise DataError(f"scenes have no split {split!r}; choose one of {', '.join(LENGTHS)}")
        self.white: Meaning = white
        self.split = split
        self.shape = (size, size) if isinstance(size, int) else tuple(size)
        self.seed = seed
        self.length = LENGTHS[split] if length is None else length
        if min(self.shape) < 32:
            raise DataError(f"scenes need at least 32 pixels to each side, got {size}")
        if self.length < 1:
            raise DataError(f"a split needs at least one scene, got length {length}")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Record:
        """Render one scene. Raises IndexError past the end."""
        index = range(self.length)[index]
        key = (list(LENGTHS).index(self.split), index)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
        layers = _stage(rng, *self.shape)
        picture = np.zeros((*self.shape, 3), np.float32)
        salient, radius = np.zeros(self.shape, bool), np.zeros(self.shape)
        for layer in layers:
            picture = optics.over(optics.blur(layer.light, layer.radius), picture)
            seen = layer.light[..., 3] >= 0.5
            salient[seen] = layer.salient
            radius[seen] = layer.radius
        image = optics.expose(_lit(rng, picture), rng.uniform(0.5, 3.0), rng)
        blurred = radius >= 0.005 * min(self.shape)
        mask = {"salient": salient, "blur": blurred, "focus": ~blurred}[self.white]
        return Record(image=image, mask=mask * np.uint8(255), id=f"scene-{self.split}-{index:05d}")


@dataclass(frozen=True)
class _Layer:
    """A flat surface facing the lens.

    Attributes:
        light: linear, premultiplied by coverage, and coverage: how much of each pixel the surface hides, 0–1.
        radius: of the circle of confusion, in pixels.
        salient: whether the surface is a salient object.
    """

    light: Float32[np.ndarray, "h w 4"]
    radius: float
    salient: bool


def _stage(rng: np.random.Generator, h: int, w: int) -> list[_Layer]:
    """Draw one scene: its layers from back to front."""
    side = min(h, w)
    # Depths are in dioptres, 0 at infinity: a thin lens's circle of confusion is linear in them.
    far, middle, near = rng.uniform(0, 0.15), rng.uniform(0.45, 0.55), rng.uniform(0.85, 1)
    focus: Focus = rng.choice(list(_SHARES), p=list(_SHARES.values()))
    focal = {"subject": near, "background": far, "between": middle, "deep": 0.7, "miss": 1.4}[focus]
    # Per dioptre. Surfaces out of focus are 0.3 dioptres off at least, so that the blur stays visible in
    # pictures scaled down, and 1 dioptre at most, or 1.4 before a missed focus.
    widest = 0.042 if focus == "miss" else 0.06
    aperture = 0.004 if focus == "deep" else rng.uniform(0.04, widest)

    def radius(depth: float) -> float:
        return side * aperture * abs(depth - focal)

    ground = _texture(rng, h, w, _colours(rng))
    mean = ground.mean(axis=(0, 1))
    ground = optics.over(_elements(rng, h, w, number=int(rng.integers(4, 16))), ground)
    layers = [_Layer(_covering(ground, np.ones((h, w), np.float32)), radius(far), salient=False)]
    if focus == "between" or rng.random() < 0.6:
        elements = _elements(rng, h, w, number=int(rng.integers(3, 9)))
        layers.append(_Layer(elements, radius(middle), salient=False))

    number = int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))
    depths = [near] * number
    if number > 1 and rng.random() < 0.6:
        depths[0] = middle
    for depth in depths:
        # The most contrasting of three draws, so that most objects stand out and no fixed colour does.
        colours = max((_colours(rng) for _ in range(3)), key=lambda pair: np.abs(pair.mean(axis=0) - mean).sum())
        size = side * rng.uniform(0.17, 0.32) / np.sqrt(number)
        centre = np.array([w, h]) * rng.uniform(0.3, 0.7, 2)
        surface = _texture(rng, h, w, colours) * _gradient(rng, h, w, 0.6)
        light = _covering(surface, _matte(rng, h, w, centre, size))
        layers.append(_Layer(light, radius(depth), salient=True))
    return layers


def _covering(
    colour: Float32[np.ndarray, "h w 3"], coverage: Float32[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w 4"]:
    coverage = coverage[..., None]
    return np.concatenate([colour * coverage, coverage], axis=-1)


def _outline(rng: np.random.Generator) -> Float64[np.ndarray, "n 2"]:
    """A closed outline around the origin, about 1 in radius: an ellipse, a blob, a polygon or a star."""
    kind = rng.integers(4)
    if kind < 2:
        angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        waves = np.arange(2, 6)[:, None]
        swell = rng.uniform(-0.35, 0.35, (4, 1)) / np.sqrt(waves) * (kind == 1)
        radius = 1 + (swell * np.cos(waves * angle + rng.uniform(0, 2 * np.pi, (4, 1)))).sum(axis=0)
    else:
        corners = int(rng.integers(3, 8)) if kind == 2 else 2 * int(rng.integers(4, 7))
        angle = (np.arange(corners) + rng.uniform(-0.25, 0.25, corners)) * (2 * np.pi / corners)
        radius = rng.uniform(0.9, 1.3, corners)
        if kind == 3:
            radius[::2] *= 0.6
    points = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * radius[:, None]
    points[:, 1] *= rng.uniform(0.55, 1)
    turn = rng.uniform(0, 2 * np.pi)
    return points @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])


def _polygon(points: Float64[np.ndarray, "n 2"]) -> list[float]:
    return (points * _SUPERSAMPLING).ravel().tolist()


def _matte(
    rng: np.random.Generator, h: int, w: int, centre: Float64[np.ndarray, "2"], size: float
) -> Float32[np.ndarray, "h w"]:
    """Coverage of an object around ``centre`` (x, y), about ``size`` pixels in radius; some have a hole."""
    canvas = Image.new("L", (w * _SUPERSAMPLING, h * _SUPERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    outline = size * _outline(rng)
    draw.polygon(_polygon(centre + outline), fill=255)
    if rng.random() < 0.25:
        draw.polygon(_polygon(centre + rng.uniform(0.3, 0.5) * outline), fill=0)
    return np.asarray(canvas.reduce(_SUPERSAMPLING), np.float32) / 255


def _elements(rng: np.random.Generator, h: int, w: int, number: int) -> Float32[np.ndarray, "h w 4"]:
    """Small things of all colours strewn over the picture: a premultiplied layer."""
    canvas = Image.new("RGBA", (w * _SUPERSAMPLING, h * _SUPERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    for _ in range(number):
        centre, size = rng.uniform(0, 1, 2) * (w, h), min(h, w) * rng.uniform(0.02, 0.07)
        colour = (255 * _colours(rng)[0]).astype(int)
        draw.polygon(_polygon(centre + size * _outline(rng)), fill=(*colour.tolist(), 255))
    # The empty canvas is black, so the mean over each block of subpixels is premultiplied already.
    light = np.stack([np.asarray(b.reduce(_SUPERSAMPLING), np.float32) for b in canvas.split()], axis=-1) / 255
    light[..., :3] *= np.exp(0.35 * _noise(rng, h, w, 0.4))[..., None]
    return light


def _colours(rng: np.random.Generator) -> Float32[np.ndarray, "2 3"]:
    """Two colours of one material: related in hue, apart in brightness."""
    first = rng.uniform(0.1, 1, 3)
    first += rng.uniform(0, 0.7) * (first.mean() - first)
    second = np.clip(first + rng.normal(0, 0.25, 3), 0.05, 1) * rng.uniform(0.25, 0.75)
    return (np.stack([first, second]) ** 2.2).astype(np.float32)


@cache
def _log_frequencies(h: int, w: int) -> Float32[np.ndarray, "h w2"]:
    frequency = np.hypot(scipy.fft.fftfreq(h)[:, None], scipy.fft.rfftfreq(w)[None, :])
    frequency[0, 0] = np.inf
    return np.log(frequency).astype(np.float32)


def _noise(rng: np.random.Generator, h: int, w: int, slope: float) -> Float32[np.ndarray, "h w"]:
    """Noise of mean 0, deviation 1 and amplitude 1/frequency^slope: 0 is white, 1 like photos, 2 clouds."""
    logarithm = _log_frequencies(h, w)
    phases = rng.standard_normal((*logarithm.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    field = scipy.fft.irfft2(phases * np.exp(np.float32(-slope) * logarithm), (h, w), overwrite_x=True)
    return field / field.std()


def _gradient(rng: np.random.Generator, h: int, w: int, strength: float) -> Float32[np.ndarray, "h w 1"]:
    """A linear fall of light in a random direction, mean 1, by up to ``strength`` each way."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.linspace(-1, 1, h)[:, None], np.linspace(-1, 1, w)[None, :]
    slope = rng.uniform(0, strength) / np.sqrt(2)
    return (1 + slope * (np.cos(angle) * x + np.sin(angle) * y)).astype(np.float32)[..., None]


def _texture(
    rng: np.random.Generator, h: int, w: int, colours: Float32[np.ndarray, "2 3"]
) -> Float32[np.ndarray, "h w 3"]:
    """A material that fills the picture: stripes, checks, spots or clouds, and fine grain over it."""
    cloud = _noise(rng, h, w, rng.uniform(1, 1.6))
    kind = rng.integers(4)
    if kind == 0:
        pattern = 0.5 + 0.3 * cloud
    else:
        angle = rng.uniform(0, np.pi)
        turns = 2 * np.pi * _NATIVE / min(h, w) / rng.uniform(5, 16)
        cos, sin = np.float32(turns * np.cos(angle)), np.float32(turns * np.sin(angle))
        y, x = np.arange(h, dtype=np.float32)[:, None], np.arange(w, dtype=np.float32)
        bend = np.float32(rng.uniform(0, 1.2)) * cloud
        u, v = np.sin(cos * x + sin * y + bend), np.sin(cos * y - sin * x + bend)
        wave = (u, u * v, np.minimum(u, v))[kind - 1]
        pattern = 0.5 + np.float32(rng.uniform(0.6, 2)) * wave
    pattern = np.clip(pattern, 0, 1)[..., None]
    grain = np.exp(np.float32(rng.uniform(0.15, 0.4)) * _noise(rng, h, w, rng.uniform(0.2, 0.7)))[..., None]
    return (colours[0] + pattern * (colours[1] - colours[0])) * grain


def _lit(rng: np.random.Generator, picture: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """Light falling off to one side, darker corners, a tint, and an exposure for a mean of 10 to 30 %."""
    h, w, _ = picture.shape
    y, x = np.linspace(-1, 1, h)[:, None, None], np.linspace(-1, 1, w)[None, :, None]
    corners = 1 - rng.uniform(0, 0.2) * (x**2 + y**2)
    tint = rng.uniform(0.85, 1.15, 3)
    light = picture * (_gradient(rng, h, w, 0.4) * corners * tint).astype(np.float32)
    return light * np.float32(rng.uniform(0.1, 0.3) / light.mean())
