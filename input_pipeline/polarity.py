"""Which way round masks of blur or focus are, by the sharpness of what they mark."""

import numpy as np
from jaxtyping import Shaped

from input_pipeline.records import Source


def looks_inverted(source: Source, samples: int = 20) -> bool:
    """Whether masks of blur or focus seem to be the wrong way round.

    Compares the mean absolute Laplacian under white and black on a few images: what is in focus has more of it.
    Always false for ``salient``, which sharpness says nothing about.
    """
    if source.white == "salient":
        return False
    votes = []
    for index in np.linspace(0, len(source) - 1, min(samples, len(source))).astype(int):
        record = source[int(index)]
        detail, white = _laplacian(record["image"]), record["mask"][1:-1, 1:-1] >= 128
        if 0.02 < white.mean() < 0.98:
            votes.append(detail[white].mean() > detail[~white].mean())
    sharp_is_white = source.white == "focus"
    return len(votes) >= 4 and bool(np.mean([v != sharp_is_white for v in votes]) > 0.75)


def _laplacian(image: Shaped[np.ndarray, "h w 3"]) -> np.ndarray:
    grey = image.astype(np.float32).mean(axis=-1)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return np.abs(around - 4 * grey[1:-1, 1:-1])
