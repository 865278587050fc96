"""The validation of a run while it trains: scores and pictures at the network's size."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
from jaxtyping import Float, UInt8

from afiu_jax.evaluation import score_batches
from afiu_jax.maps import to_8_bit
from afiu_jax.training.devices import fetch, shared_equally, spread
from afiu_jax.training.schema import Resolved
from afiu_jax.training.state import TrainState
from input_pipeline.loader import Batch, Preparation, eval_batches
from input_pipeline.records import Source
from input_pipeline.transforms import resize


class Validation:
    """Scores and pictures of the validation data at the network's size.

    Attributes:
        skipped: why records could not be read, of those that the last scores leave out.
    """

    def __init__(self, source: Source, config: Resolved, predict_step: Callable):
        self.source, self.config, self.predict_step = source, config, predict_step
        self.preparation = Preparation.of(config["data"])
        self.skipped: list[str] = []

    def scores(self, state: TrainState, watched: Callable[[Iterable], Iterator] = iter) -> dict[str, float]:
        """``mae`` and ``max_f`` over all of the data, whose batches are read through ``watched``."""
        self.skipped = []
        return score_batches(partial(self._maps, state), map(self._noted, watched(self._batches())))

    def panel(self, state: TrainState) -> UInt8[np.ndarray, "h w 3"]:
        """Image, mask and map side by side, one row for each of the first records."""
        batch = next(self._batches())
        found = self._maps(state, batch["image"])
        rows = []
        for i in range(min(self.config["logging"]["panels"], len(self.source), len(found))):
            image = resize(self.source[i]["image"], self.preparation.size)
            maps = (np.repeat(to_8_bit(m), 3, axis=-1) for m in (batch["mask"][i], found[i]))
            rows.append(np.hstack([image, *maps]))
        return np.vstack(rows)

    def _maps(self, state: TrainState, images: Float[np.ndarray, "b h w 3"]) -> Float[np.ndarray, "b h w 1"]:
        """Every process reads all of the data and has all of the maps; the devices share the work."""
        return fetch(self.predict_step(state.params, state.batch_stats, spread(images)))

    def _batches(self) -> Iterator[Batch]:
        size, workers = shared_equally(self.config["eval"]["batch_size"]), self.config["data"]["workers"]
        return eval_batches(self.source, self.preparation, batch_size=size, workers=workers)

    def _noted(self, batch: Batch) -> Batch:
        self.skipped += batch["skipped"]
        return batch
