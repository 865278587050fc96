"""How much better one start is than another, image by image, and how sure that is.

An interval says how far the difference would move if other images of the same kind had been drawn: images are drawn
anew with replacement, both starts keep theirs (paired), and the middle 95 % of the differences are the interval,
corrected for bias and skewness (BCa; Efron, "Better Bootstrap Confidence Intervals", JASA 1987). It says nothing of
what another seed would change: for that, look at the spread over seeds.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from afiu_jax.report.curves import f_of
from afiu_jax.scoring import Scored

RESAMPLES = 2000
_SEED = 0


@dataclass(frozen=True)
class Difference:
    """A score of a start minus the same of another.

    Attributes:
        value: the mean over seeds.
        low: lower end of the 95 % interval over images; None if there is none, as of a single image.
        high: its upper end.
    """

    value: float
    low: float | None
    high: float | None


def mae_difference(ours: Sequence[Scored], theirs: Sequence[Scored]) -> Difference:
    """Of the MAE; less than 0 is better.

    Args:
        ours: the start's runs, a run for each seed, all on the same images.
        theirs: those of the other start with the same seeds.
    """
    errors = [_mae_of_images(runs) for runs in (ours, theirs)]
    return _bootstrap(errors[0] - errors[1], lambda each, axis: each.mean(axis))


def max_f_difference(ours: Sequence[Scored], theirs: Sequence[Scored]) -> Difference:
    """Of max F; more than 0 is better. It is no mean over images: every draw averages the curves of its images anew.

    Args:
        ours: as of ``mae_difference``, with ``image_curves``.
        theirs: likewise.
    """
    runs = [(run.image_curves["precision"], run.image_curves["recall"]) for run in (*ours, *theirs)]
    signs = np.repeat([1 / len(ours), -1 / len(theirs)], [len(ours), len(theirs)])

    def difference(places: np.ndarray, axis: int) -> np.ndarray:
        counts = _counts(np.atleast_2d(places), len(runs[0][0])) / places.shape[-1]
        scores = [f_of(counts @ precision, counts @ recall).max(-1) for precision, recall in runs]
        return np.reshape(signs @ np.stack(scores), places.shape[:-1])

    return _bootstrap(np.arange(len(runs[0][0])), difference)


def _mae_of_images(runs: Sequence[Scored]) -> Float[np.ndarray, " images"]:
    return np.mean([[picture["mae"] for picture in run.pictures] for run in runs], axis=0)


def _counts(places: Int[np.ndarray, "b n"], images: int) -> Float[np.ndarray, "b images"]:
    """How often each image is in each draw."""
    flat = places + images * np.arange(len(places))[:, None]
    return np.bincount(flat.ravel(), minlength=len(places) * images).reshape(len(places), images).astype(float)


def _bootstrap(sample: np.ndarray, statistic) -> Difference:
    def rounded(places: np.ndarray, axis: int):
        # The interval counts draws below the value: the same images in another order must not count for rounding.
        return np.round(statistic(places, axis), 12)

    value = float(rounded(sample, -1))
    if len(sample) < 2:
        return Difference(value, None, None)
    with warnings.catch_warnings():
        # Where every draw gives the same, SciPy has no interval, says so and gives NaN.
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            (sample,), rounded, vectorized=True, n_resamples=RESAMPLES, method="BCa", rng=np.random.default_rng(_SEED)
        )
    low, high = map(float, found.confidence_interval)
    return Difference(value, low, high) if np.isfinite([low, high]).all() else Difference(value, None, None)
