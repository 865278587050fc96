"""The scores of one method on one set of images."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Scored:
    """How well one method's maps agree with the masks.

    Attributes:
        name: the method: a folder or a run.
        scores: by name; each in 0…1.
        curves: ``precision``, ``recall``, ``f``, ``e_measure`` at thresholds 0…255, averaged over images.
        pictures: for each image its ``id`` and its own scores, in the order of scoring.
        protocol: what belongs beside the numbers: definitions, polarity, thresholds, how maps were read.
        images: number of images scored.
        resized: how many of their maps were resized to their mask.
        left_out: images that could not be scored.
    """

    name: str
    scores: dict[str, float]
    curves: dict[str, Float[np.ndarray, " 256"]]
    pictures: list[dict[str, str | float]]
    protocol: dict[str, str]
    images: int
    resized: int = 0
    left_out: int = 0
