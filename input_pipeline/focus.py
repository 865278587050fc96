"""Pictures in which the lens focuses on one thing, rendered from one photo and an outline.

Each function takes linear light and returns the picture with the blur radius of each of its pixels. Neither layer
leaves a halo in the other, because each is continued behind the other before it is blurred.
"""

import numpy as np
from jaxtyping import Bool, Float32
from PIL import Image, ImageFilter

from input_pipeline import optics


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


def focus_on_standing_subject(
    image: Float32[np.ndarray, "h w 3"], subject: Bool[np.ndarray, "h w"], radius: float, rng: np.random.Generator
) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"]]:
    """Keep the subject sharp, and the ground where it stands.

    Everything else is a plane below a horizon, which lies somewhere above the subject's lowest pixel, and ``radius``
    beyond it. On such a plane the blur radius grows linearly with the distance, in rows, from where the subject
    stands: blur is in proportion to the difference of the inverse distances, and these are linear in the row.

    Arguments and result as of `focus_on_subject`; ``rng`` draws horizon and depth of field.
    """
    h, _ = subject.shape
    base = int(np.flatnonzero(subject.any(axis=1))[-1])
    horizon = rng.uniform(0, 0.8) * base
    rows = np.arange(h, dtype=np.float32)
    away = np.where(rows < base, np.minimum((base - rows) / max(base - horizon, 1.0), 1), (rows - base) / h)
    depth_of_field = rng.uniform(0, 0.15)
    blur = radius * np.maximum(away - depth_of_field, 0) / (1 - depth_of_field)
    around = np.broadcast_to(blur.astype(np.float32)[:, None], subject.shape)
    background = optics.blur_varying(_without(image, subject), around)
    front = _soft(subject)[..., None]
    return front * image + (1 - front) * background, np.where(subject, np.float32(0), around)


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


def tilted_plane(rng: np.random.Generator, shape: tuple[int, int], radius: float) -> Float32[np.ndarray, "h w"]:
    """Blur radius over a plane that is tilted by some 15° (one standard deviation) from the rows.

    Beyond the depth of field, 5 to 20 % of the height to each side of the line of focus, it grows linearly
    with the distance in the picture, as on any plane.
    """
    h, w = shape
    angle = rng.normal(0, 0.25)
    y, x = np.mgrid[:h, :w]
    across = np.cos(angle) * (y - rng.uniform(0.15, 0.85) * h) + np.sin(angle) * (x - w / 2)
    distance = np.maximum(np.abs(across) - rng.uniform(0.05, 0.2) * h, 0)
    return (radius * distance / max(distance.max(), 1)).astype(np.float32)


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
