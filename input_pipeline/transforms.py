"""From a record at its own size to a network's input: resize, flip, colour jitter, normalise. NumPy, one image.

Augmentation as the paper has it (section 3.3): vertical flip with probability 0.5 and random colour jitter, of which
it gives no strength. All random numbers come from the generator that is passed in.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from input_pipeline.records import Record

Normalization = Literal["imagenet", "max-imagenet", "bgr255"]
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Augment:
    """Random changes of training images.

    Attributes:
        vertical_flip: probability that the rows are reversed, 0–1.
        horizontal_flip: probability that the columns are reversed, 0–1.
        color_jitter: brightness, contrast and saturation are each multiplied by a factor drawn uniformly from
            ``1 ± color_jitter``, in random order; 0 turns it off.
        rotation: largest angle of a rotation either way, in degrees; what comes into view is black (MINet).
        crop: side of a square that is cut out at a random place; 0 keeps the whole picture (U²-Net, BASNet).
    """

    vertical_flip: float = 0.5
    horizontal_flip: float = 0.0
    color_jitter: float = 0.1
    rotation: float = 0.0
    crop: int = 0

    def __call__(self, record: Record, random: np.random.Generator) -> Record:
        """A changed copy of the record; the mask follows the flips, the rotation and the crop."""
        image, mask = record["image"], record["mask"]
        if self.crop:
            top, left = (int(random.integers(side - self.crop + 1)) for side in mask.shape)
            image, mask = (x[top : top + self.crop, left : left + self.crop] for x in (image, mask))
        if random.random() < self.vertical_flip:
            image, mask = image[::-1], mask[::-1]
        if random.random() < self.horizontal_flip:
            image, mask = image[:, ::-1], mask[:, ::-1]
        if self.rotation:
            image, mask = rotate(image, mask, random.uniform(-self.rotation, self.rotation))
        if self.color_jitter:
            image = jitter(image, self.color_jitter, random)
        return {**record, "image": image, "mask": mask}


def rotate(
    image: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"], angle: float
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """Both turned about their centre by ``angle`` degrees; the image bilinearly, the mask by its nearest pixels."""
    modes = (Image.Resampling.BILINEAR, Image.Resampling.NEAREST)
    pictures = (Image.fromarray(np.ascontiguousarray(x)) for x in (image, mask))
    return tuple(np.asarray(p.rotate(angle, mode)) for p, mode in zip(pictures, modes, strict=True))


def jitter(
    image: UInt8[np.ndarray, "h w 3"], strength: float, random: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Brightness, contrast and saturation, each by a factor from ``1 ± strength``, in random order."""
    x = image.astype(np.float32)
    factors = random.uniform(1 - strength, 1 + strength, size=3).astype(np.float32)
    for kind in random.permutation(3):
        # Each is a blend of the picture with black, with its mean grey, or with its own grey version.
        factor, rest = factors[kind], 1 - factors[kind]
        if kind == 0:
            x *= factor
        elif kind == 1:
            mean_grey = np.float32(cv2.mean(x)[:3] @ _LUMA)
            x *= factor
            x += rest * mean_grey
        else:
            x = cv2.transform(x, factor * np.eye(3, dtype=np.float32) + rest * _LUMA)
        np.clip(x, 0, 255, out=x)
    return np.rint(x).astype(np.uint8)


def resize(
    image: UInt8[np.ndarray, "h w *c"], size: tuple[int, int], *, antialias: bool = False
) -> UInt8[np.ndarray, "h2 w2 *c"]:
    """Bilinear resize of an 8-bit picture or mask to ``(height, width)``; the only resize of this package.

    Half-pixel centres, and no antialiasing unless asked: shrinking samples the four nearest pixels, as U²-Net's and
    BASNet's loaders did when they were published, and leaves fine detail (which tells sharp from blurred) aliased
    rather than smoothed away. With it, pixels are those of Pillow's bilinear resize, as MINet's, CPD's and SUN's
    loaders have them.
    """
    height, width = size
    if image.shape[:2] == size:
        return image
    image = np.ascontiguousarray(image)
    if antialias:
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def normalize(image: UInt8[np.ndarray, "h w 3"], how: Normalization) -> Float32[np.ndarray, "h w 3"]:
    """The float image that a network expects.

    ``imagenet``: 0–1, then ImageNet's mean and standard deviation; ``max-imagenet``: divided by the picture's own
    maximum in place of 255 (U²-Net); ``bgr255``: blue, green, red in 0–255 as they are (SRM normalises them itself).
    """
    if how == "bgr255":
        return image[..., ::-1].astype(np.float32)
    peak = max(float(image.max()), 1.0) if how == "max-imagenet" else 255.0
    # Looked up, since a picture has more pixels than its channels have levels.
    table = (np.arange(256, dtype=np.float32)[:, None] / np.float32(peak) - _MEAN) / _STD
    return cv2.LUT(np.ascontiguousarray(image), table[None])


def binarize(mask: UInt8[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w 1"]:
    """1 where the mask is at least 128, else 0."""
    return (mask >= 128).astype(np.float32)[..., None]
