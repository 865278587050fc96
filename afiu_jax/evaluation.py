"""Scores of a network or of maps on disk: while training at the network's size, to report at the masks' own."""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from afiu_jax.console import progress
from afiu_jax.errors import UserError
from afiu_jax.inference import Predictor
from afiu_jax.mapfolder import MapFolder
from afiu_jax.metrics import ValidationScores, score_images
from afiu_jax.metrics.counts import level_values
from afiu_jax.scoring import Scored, Scorer
from input_pipeline.loader import Batch
from input_pipeline.records import Record, Source
from input_pipeline.sources import stored_mask
from input_pipeline.suspicion import looks_unscaled


def score_batches(
    predict: Callable[[Float[Array, "b h w 3"]], Float[Array, "b h w 1"]], batches: Iterable[Batch]
) -> dict[str, float]:
    """``mae`` and ``max_f`` of a network over batches, at the network's size.

    Args:
        predict: normalised images to maps in 0…1.
        batches: see ``input_pipeline.loader.eval_batches``.

    Raises:
        UserError: maps that are not finite.
    """
    scores = ValidationScores.empty()
    for batch in batches:
        levels, finite = _to_levels(predict(batch["image"]))
        if not finite:  # as levels they would be 0, and score as black maps do
            raise UserError(
                "the network's maps are not finite, though its loss was: lower train.learning_rate in another --workdir"
            )
        masks = batch["mask"][..., 0] > 0
        values = np.tile(level_values(0, 255, 256), (len(masks), 1))
        images = score_images(levels, masks, np.ones_like(masks), values)
        counted = batch["weight"] > 0
        images = {name: np.asarray(value)[counted] for name, value in images.items()}
        scores = scores.merge(ValidationScores.single_from_model_output(**images))
    return {name: float(value) for name, value in scores.compute().items()}


@jax.jit
def _to_levels(maps: Float[Array, "b h w 1"]) -> tuple[UInt8[Array, "b h w"], Bool[Array, ""]]:
    return jnp.round(maps[..., 0] * 255).astype(jnp.uint8), jnp.isfinite(maps).all()


def evaluate(
    predictor: Predictor,
    source: Source,
    on_record: Callable[[Record, UInt8[np.ndarray, "h w"]], None] | None = None,
    *,
    name: str = "network",
    quantise: bool = True,
    normalize: bool = False,
    faint: list[str] | None = None,
) -> Scored:
    """Scores of a network at the masks' own size.

    Args:
        predictor: the network.
        source: the data; 255 in its masks is the network's target.
        on_record: called with every record and its map of 8 bits.
        name: the method's.
        quantise: score the maps in 8 bits, as they would stand on disk; otherwise in 16, with no map for
            ``on_record``.
        normalize: stretch every map to 0…1 before scoring.
        faint: ids of masks that are marked, but nowhere from 128 on, are added to it.

    Raises:
        ValueError: ``on_record`` without ``quantise``.
    """
    if on_record and not quantise:
        raise ValueError("maps are written in 8 bits: score them so")
    scorer = Scorer(normalize=normalize)
    indices = progress(range(len(source)), "evaluating")
    for record, found in predictor.maps((source[i] for i in indices), bits=8 if quantise else 16):
        scorer.add(record["id"], found, record["mask"] >= 128)
        if faint is not None and looks_unscaled(stored_mask(source, record)):
            faint.append(record["id"])
        if on_record:
            on_record(record, found)
    bits = "in 8 bits, as on disk" if quantise else "in 16 bits, not rounded to 8"
    return scorer.finish(name, {"polarity": f"1 = {predictor.positive}", "read": f"the network's maps {bits}"})


def evaluate_folder(folder: MapFolder, *, name: str, normalize: bool = False) -> Scored:
    """Scores of maps on disk.

    Args:
        folder: the maps and their masks; its ``warnings`` are complete afterwards.
        name: the method's.
        normalize: stretch every map to 0…1 before scoring.

    Raises:
        UserError: none of the pairs could be read.
    """
    scorer, resized = Scorer(normalize=normalize), 0
    for pair in progress(folder, f"scoring {name}", len(folder)):
        scorer.add(pair.stem, pair.found, pair.mask)
        resized += pair.resized
    if not scorer.names:
        problem = next(iter(folder.warnings["cannot be read"]))
        raise UserError(f"none of the {len(folder)} maps of {name} could be scored, for instance: {problem}")
    polarity = "255 is the target in maps and masks"
    if inverted := [what for what, yes in (("maps", folder.invert_predictions), ("masks", folder.invert_masks)) if yes]:
        polarity = f"{' and '.join(inverted)} inverted: 1 is what 0 is in their files"
    protocol = {"polarity": polarity, "read": "maps of 8 bits on disk"}
    return scorer.finish(name, protocol, resized=resized, left_out=len(folder.left_out))
