"""Maps of photos from a checkpoint."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from flax import nnx
from jaxtyping import UInt8, UInt16

from afiu_jax.compilation import enable_compilation_cache
from afiu_jax.errors import UserError
from afiu_jax.maps import resize_map, to_8_bit, to_16_bit
from afiu_jax.networks import create_model
from afiu_jax.training.checkpoint import load_model, transfer
from afiu_jax.training.config import Resolved
from afiu_jax.training.state import graph_of
from afiu_jax.training.step import make_predict_step
from input_pipeline.loader import Preparation
from input_pipeline.records import Meaning, Record


class Predictor:
    """A trained network with the preparation that it was trained with.

    Args:
        checkpoint: a run's work directory (its best checkpoint, else its last) or one step's folder.
        batch_size: pictures that go through the network at once.

    Attributes:
        path: folder of the step that was read.
        name: of the run, for tables.
        positive: what 1 means in the maps.
        config: the resolved configuration of the run.

    Raises:
        UserError: no checkpoint there, or one that does not fill its network.
    """

    def __init__(self, checkpoint: str | Path, batch_size: int = 8):
        saved = load_model(checkpoint)
        self.path, self.config, self.batch_size = saved.path, saved.config, batch_size
        self.name = self.path.parents[1].name if self.path.parent.name == "checkpoints" else self.path.name
        self.positive: Meaning = saved.config["task"]["positive"]
        self.preparation = preparation_of(saved.config)
        name, options = saved.config["model"]["name"], saved.config["model"]["options"]
        model = create_model(name, **options)
        report = transfer(saved, model, name)
        if report.absent or report.reshaped:
            raise UserError(f"{saved.path} does not fill its own network: {report.describe()}")
        enable_compilation_cache()
        self._predict = make_predict_step(graph_of(model, training=False))
        self._state = nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)

    def maps(
        self, records: Iterable[Record], *, bits: Literal[8, 16] = 8
    ) -> Iterator[tuple[Record, UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]]]:
        """Each record with its map, 0–255 (0–65535 for 16 bits), at the record's own size, in order."""
        quantise = to_8_bit if bits == 8 else to_16_bit
        records = iter(records)
        while batch := list(islice(records, self.batch_size)):
            images = [self.preparation.finish(self.preparation.shrink(r))["image"] for r in batch]
            # A short last batch is filled up, so that one shape is compiled.
            images += [np.zeros_like(images[0])] * (self.batch_size - len(images))
            maps = np.asarray(self._predict(*self._state, np.stack(images)))
            for record, found in zip(batch, maps, strict=False):
                yield record, quantise(resize_map(found[..., 0], record["image"].shape[:2]))


def preparation_of(config: Resolved) -> Preparation:
    """How a run's configuration prepares images for its network."""
    data = config["data"]
    side = data["image_size"]
    return Preparation((side, side), data["normalize"], data["antialias"])
