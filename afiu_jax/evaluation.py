"""Scores of a network on a data set: at the network's size while training, at the masks' own size to report."""

from collections.abc import Callable, Iterable

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8
from rich.progress import track

from afiu_jax.inference import Predictor
from afiu_jax.metrics import SaliencyScores
from input_pipeline.loader import Batch
from input_pipeline.records import Record, Source

_BUCKET = 128  # pictures are padded to multiples of this, so that few shapes are compiled

score_maps = jax.jit(SaliencyScores.from_maps)
"""``(maps, masks, weight, valid) -> SaliencyScores`` of a batch."""


def score_batches(
    predict: Callable[[Float[Array, "b h w 3"]], Float[Array, "b h w 1"]], batches: Iterable[Batch]
) -> dict[str, float]:
    """``mae`` and ``max_f`` of a network over batches, at the network's size.

    Args:
        predict: normalised images to maps in 0…1.
        batches: see ``input_pipeline.loader.eval_batches``.
    """
    scores = SaliencyScores.empty()
    for batch in batches:
        scores = scores.merge(score_maps(predict(batch["image"]), batch["mask"], batch["weight"]))
    return {name: float(value) for name, value in scores.compute().items()}


def evaluate(
    predictor: Predictor,
    source: Source,
    on_record: Callable[[Record, UInt8[np.ndarray, "h w"]], None] | None = None,
) -> dict[str, float]:
    """``mae`` and ``max_f`` at the masks' own size, from maps in 8 bits as they would stand on disk.

    Args:
        predictor: the network.
        source: the data; 255 in its masks is the network's target.
        on_record: called with every record and its map.
    """
    scores = SaliencyScores.empty()
    indices = track(range(len(source)), description="evaluating", transient=True)
    for record, found in predictor.maps(source[i] for i in indices):
        scores = scores.merge(score_picture(found, record["mask"]))
        if on_record:
            on_record(record, found)
    return {name: float(value) for name, value in scores.compute().items()}


def score_picture(found: UInt8[np.ndarray, "h w"], mask: UInt8[np.ndarray, "h w"]) -> SaliencyScores:
    """Scores of one map, 0–255, against a mask that is positive from 128 on."""
    padding = [(0, -side % _BUCKET) for side in mask.shape]
    arrays = (found / np.float32(255), mask >= 128, np.ones(mask.shape))
    maps, masks, valid = (np.pad(a.astype(np.float32), padding)[None, ..., None] for a in arrays)
    return score_maps(maps, masks, None, valid)
