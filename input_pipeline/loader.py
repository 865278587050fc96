"""Batches: endless and shuffled for training, once over everything for evaluation.

Training order is a function of (seed, step) alone. Grain shuffles anew in every epoch and gives every record its own
random generator, so a run resumes exactly from nothing but its step; each process takes its part of every global
batch, so the order does not depend on the number of processes either.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import cv2
import grain
import numpy as np
from jaxtyping import Float32

from input_pipeline.records import Record, Source
from input_pipeline.transforms import Augment, Normalization, binarize, normalize, resize


class Batch(TypedDict):
    """What a network is trained or scored on.

    Attributes:
        image: normalised, see ``transforms.normalize``.
        mask: 0 or 1; 1 is the task's target.
        weight: 1 for records, 0 for the padding of a last batch and for what stands in for a record.
        id: the records' ids.
        skipped: for each record that could not be read, why; another one stands in for it.
    """

    image: Float32[np.ndarray, "b h w 3"]
    mask: Float32[np.ndarray, "b h w 1"]
    weight: Float32[np.ndarray, " b"]
    id: list[str]
    skipped: list[str]


@dataclass(frozen=True)
class Preparation:
    """How records become network input.

    Attributes:
        size: height and width, in pixels.
        normalize: see ``transforms.normalize``.
        antialias: smooth before shrinking; see ``transforms.resize``.
    """

    size: tuple[int, int]
    normalize: Normalization = "imagenet"
    antialias: bool = False

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Preparation":
        """What the ``data`` part of a configuration says."""
        return cls((data["image_size"],) * 2, data["normalize"], data["antialias"])

    def shrink(self, record: Record) -> Record:
        """Image and mask at the network's size, still 8-bit."""
        image = resize(record["image"], self.size, antialias=self.antialias)
        return {**record, "image": image, "mask": resize(record["mask"], self.size)}

    def finish(self, record: Record) -> dict:
        """The float arrays of one record."""
        image = np.ascontiguousarray(normalize(record["image"], self.normalize))
        mask = np.ascontiguousarray(binarize(record["mask"]))
        reason = record.get("stands_in_for")
        weight = np.float32(0 if reason else 1)
        return {"image": image, "mask": mask, "weight": weight, "id": record["id"], "skipped": reason}


def train_batches(
    source: Source,
    preparation: Preparation,
    *,
    batch_size: int,
    augment: Augment,
    seed: int,
    start_step: int = 0,
    workers: int = 2,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Endless shuffled batches of this process, from the batch of ``start_step`` on.

    Args:
        source: the records.
        preparation: size and normalisation.
        batch_size: records in a global batch; a multiple of ``process_count``.
        augment: random changes, before normalisation.
        seed: decides order and augmentation.
        start_step: number of global batches to pass over, at no cost.
        workers: threads that decode and augment.
        process_index: this process among those that share a global batch.
        process_count: how many those are.
    """
    cv2.setNumThreads(1)  # the workers keep all cores busy: OpenCV's own threads beside them cost a fifth
    records = (
        grain.MapDataset.source(source)
        .seed(seed)
        .shuffle()
        .repeat()
        .map(preparation.shrink)
        .random_map(augment)
        .map(preparation.finish)
    )
    # A global batch is its processes' parts end to end, whatever their number: so are its rows on their devices, which
    # accumulation, normalisation in groups and dropout go by.
    # Nothing remains of an endless stream; saying so keeps Grain from counting its batches, which overflows.
    parts = records.batch(batch_size // process_count, drop_remainder=True, batch_fn=_stack)
    batches = parts[process_index::process_count]
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
    return iter(batches[start_step:].to_iter_dataset(options))


def eval_batches(source: Source, preparation: Preparation, *, batch_size: int, workers: int = 2) -> Iterator[Batch]:
    """Every record once, in order; the last batch is filled with zeros of weight 0 up to ``batch_size``."""
    records = grain.MapDataset.source(source).map(preparation.shrink).map(preparation.finish)
    batches = records.batch(batch_size, batch_fn=_stack)
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
    for batch in batches.to_iter_dataset(options):
        yield _pad(batch, batch_size)


def _stack(records: list[dict]) -> Batch:
    arrays = {key: np.stack([r[key] for r in records]) for key in ("image", "mask", "weight")}
    skipped = [r["skipped"] for r in records if r["skipped"]]
    return {**arrays, "id": [r["id"] for r in records], "skipped": skipped}


def _pad(batch: Batch, batch_size: int) -> Batch:
    missing = batch_size - len(batch["id"])
    if not missing:
        return batch
    widths = lambda a: [(0, missing)] + [(0, 0)] * (a.ndim - 1)  # noqa: E731
    return {
        **{key: np.pad(batch[key], widths(batch[key])) for key in ("image", "mask", "weight")},
        "id": batch["id"] + [""] * missing,
        "skipped": batch["skipped"],
    }
