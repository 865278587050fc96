"""Scores pictures of any mix of sizes, at their own size, a few shapes compiled for all of them.

    scorer = Scorer()
    for name, found, mask in pictures:
        scorer.add(name, found, mask)
    scorer.finish("my method", protocol).scores["max_f"]

A picture is padded to the next of few sizes; the padding counts nowhere. While the device scores one batch, the host
finds the distances for the next (weighted F), unless programs are waited for, see ``memory``.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, UInt

from afiu_jax.metrics import Scores, score_images
from afiu_jax.metrics.counts import level_values
from afiu_jax.metrics.image import CURVES, ImageScores
from afiu_jax.metrics.weighted import Surroundings, surroundings

DEFINITIONS = {
    "max F": "β² = 0.3; precision and recall averaged over images at each threshold, F of the averages, its maximum",
    "max F, mean curve": "F of each image averaged at each threshold, its maximum (PySODMetrics)",
    "thresholds": "map ≥ t for t = 0/255 … 255/255; adaptive: map ≥ min(2 × its mean, 1); at half: map > 0.5",
    "masks": "target from 128 on",
}
"""What the numbers mean, to be printed beside them."""

_BATCH_PIXELS = 2**20


@dataclass(frozen=True)
class Scored:
    """How well one method's maps agree with the masks.

    Attributes:
        name: the method: a folder or a run.
        scores: by name, in the order of ``metrics.Scores``; each in 0…1, E-measures up to N/(N−1) for N
            pixels.
        curves: ``precision``, ``recall``, ``f``, ``e_measure`` at thresholds 0…255, averaged over images.
        pictures: for each image its ``id`` and its own scores, in the order of scoring.
        image_curves: the same curves of each image, in the order of ``pictures``; may be left out.
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
    image_curves: dict[str, Float[np.ndarray, "images 256"]] = field(default_factory=dict)


class _Batch:
    """Room for pictures of one padded size, and those that are in it."""

    def __init__(self, dtype: np.dtype, height: int, width: int):
        size = int(np.clip(_BATCH_PIXELS // (height * width), 1, 8))
        self.num_levels = np.iinfo(dtype).max + 1
        self.levels = np.zeros((size, height, width), dtype)
        self.masks, self.valid = (np.zeros((size, height, width), bool) for _ in range(2))
        self.around = Surroundings(np.zeros((size, height, width), np.uint16), np.zeros_like(self.levels))
        self.values = np.tile(np.linspace(0, 1, self.num_levels), (size, 1))
        self.key = np.dtype(dtype), height, width
        self.indices: list[int] = []

    @property
    def full(self) -> bool:
        return len(self.indices) == len(self.levels)

    def add(self, index: int, found: np.ndarray, mask: np.ndarray, *, normalize: bool) -> None:
        """Puts a picture into the next place."""
        i, (h, w) = len(self.indices), mask.shape
        self.levels[i, :h, :w], self.masks[i, :h, :w] = found, mask
        self.valid[i], self.valid[i, :h, :w] = False, True
        for room, value in zip(self.around, surroundings(found, mask), strict=True):
            room[i, :h, :w] = value
        self.values[i] = level_values(int(found.min()), int(found.max()), self.num_levels, normalize=normalize)
        self.indices.append(index)

    def score(self) -> ImageScores:
        """The scores of all places, computed while the caller goes on; nothing may be added until they are there."""
        return score_images(self.levels, self.masks, self.valid, self.values, self.around)

    def clear(self) -> None:
        """Makes all places free. What is in them stays: it takes time to erase, and does not count."""
        self.indices = []


class Scorer:
    """Collects pictures, scores them in batches of one padded size, and merges.

    Args:
        normalize: stretch every map to 0…1 before scoring (min-max per image).
    """

    def __init__(self, *, normalize: bool = False):
        self.normalize = normalize
        self.names: list[str] = []
        self._waiting: dict[tuple, _Batch] = {}
        self._running: list[tuple[_Batch, ImageScores]] = []
        self._free: dict[tuple, _Batch] = {}
        self._done: dict[int, dict[str, np.ndarray]] = {}

    def add(self, name: str, found: UInt[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> None:
        """Scores a picture, now or when enough of its size are there.

        Args:
            name: the image's.
            found: the map, uint8 or uint16; its type's whole range stands for 0…1.
            mask: the target's pixels.

        Raises:
            ValueError: map and mask of different sizes, or of other types.
        """
        if found.dtype not in (np.uint8, np.uint16) or mask.dtype != bool:
            raise ValueError(
                f"the map of {name} is {found.dtype} and its mask {mask.dtype}: pass a map of uint8 or uint16, such as "
                "afiu_jax.maps.to_8_bit(map in 0…1), and a mask of bool, such as mask >= 128"
            )
        if found.shape != mask.shape:
            raise ValueError(f"the map of {name} is {found.shape}, its mask {mask.shape}")
        key = found.dtype, *(_padded(side) for side in found.shape)
        if key not in self._waiting:
            self._waiting[key] = self._free.pop(key, None) or _Batch(*key)
        batch = self._waiting[key]
        batch.add(len(self.names), found, mask, normalize=self.normalize)
        self.names.append(name)
        if batch.full:
            self._start(key)

    def finish(self, name: str, protocol: dict[str, str] | None = None, **counts: int) -> Scored:
        """The scores of everything that was added.

        Args:
            name: the method's.
            protocol: lines beside ``DEFINITIONS``.
            **counts: ``resized`` and ``left_out``.
        """
        for key in list(self._waiting):
            self._start(key)
        self._collect(0)
        rows = [self._done[i] for i in range(len(self.names))]
        stacked = {key: np.stack([row[key] for row in rows]) for key in rows[0]} if rows else {}
        total = Scores.single_from_model_output(**stacked) if rows else Scores.empty()
        return Scored(
            name=name,
            scores={key: float(value) for key, value in total.compute().items()} if rows else {},
            curves=dict(total.curves()) if rows else {},
            pictures=[
                {"id": self.names[i], **{key: float(value) for key, value in row.items() if key not in CURVES}}
                for i, row in enumerate(rows)
            ],
            protocol={
                **DEFINITIONS,
                "maps": "min-max normalised per image" if self.normalize else "as they are, not stretched",
                **(protocol or {}),
            },
            images=len(rows),
            image_curves={key: stacked[key] for key in CURVES if rows},
            **counts,
        )

    def _start(self, key: tuple) -> None:
        batch = self._waiting.pop(key)
        self._running.append((batch, batch.score()))
        self._collect(1)

    def _collect(self, keep: int) -> None:
        """Fetches the results of all batches but the last ``keep``, which may still be computed."""
        while len(self._running) > keep:
            batch, scores = self._running.pop(0)
            scores = {key: np.asarray(value) for key, value in scores.items()}
            for place, index in enumerate(batch.indices):
                self._done[index] = {key: value[place] for key, value in scores.items()}
            batch.clear()
            self._free = {batch.key: batch}


def _padded(side: int) -> int:
    """The side that is compiled for: multiples of 32, of 64 from 512 on, of 128 from 1024 on, and so forth."""
    step = max(32, 1 << max(side.bit_length() - 4, 0))
    return -(-side // step) * step
