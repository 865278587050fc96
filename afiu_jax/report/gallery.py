"""Which images a report shows, and small copies of them that travel inside the page."""

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from afiu_jax.scoring import Scored

_QUALITY = 80  # of WebP: a thumbnail is 2 to 8 kB


def common_ids(methods: Sequence[Scored]) -> list[str]:
    """Images that every method was scored on, in the order of the first."""
    others = [{picture["id"] for picture in method.pictures} for method in methods[1:]]
    return [p["id"] for p in methods[0].pictures if all(p["id"] in ids for ids in others)] if methods else []


def spread_over_difficulty(methods: Sequence[Scored], count: int) -> list[str]:
    """Images from the easiest to the hardest, at even steps of their rank.

    How hard an image is says the median over methods of its MAE, so that no single method decides; equal ones stand in
    the order of their ids.

    Args:
        methods: scored on common images; without any, nothing is shown.
        count: how many; all if there are fewer.
    """
    errors = [mae_by_id(method) for method in methods]
    ranked = sorted(common_ids(methods), key=lambda i: (float(np.median([e[i] for e in errors])), i))
    count = min(count, len(ranked))
    return [ranked[math.floor((place + 0.5) * len(ranked) / count)] for place in range(count)]


def extremes(method: Scored, count: int) -> tuple[list[str], list[str]]:
    """The worst images by MAE, worst first, and the best, best first; none is among both."""
    errors = mae_by_id(method)
    ranked = sorted(errors, key=lambda i: (errors[i], i))
    half = (len(ranked) + 1) // 2
    worst = ranked[::-1][: min(count, half)]
    return worst, ranked[: min(count, len(ranked) - len(worst))]


def mae_by_id(method: Scored) -> dict[str, float]:
    """MAE of every image of a method."""
    return {str(picture["id"]): float(picture["mae"]) for picture in method.pictures}


def thumbnail(picture: UInt8[np.ndarray, "h w *c"], side: int) -> UInt8[np.ndarray, "h2 w2 *c"]:
    """A copy whose longer side is at most ``side`` pixels."""
    image = Image.fromarray(picture)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def data_uri(picture: UInt8[np.ndarray, "h w *c"]) -> str:
    """A picture as a ``data:`` address, in WebP."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "webp", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
