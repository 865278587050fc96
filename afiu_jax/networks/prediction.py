"""What every network returns, and how it refuses an image size."""

from typing import NamedTuple

from jaxtyping import Array, Float


class Prediction(NamedTuple):
    """Logits of a network; a sigmoid turns them into maps in 0…1.

    Attributes:
        logits: the final map at the original's output size, ``[b, h, w, 1]``.
        side_logits: the side outputs in the original's order, each ``[b, h, w, 1]``; empty for AFIU.
    """

    logits: Float[Array, "b h w 1"]
    side_logits: tuple[Float[Array, "b _h _w 1"], ...] = ()


def require_size(size: tuple[int, int], factor: int, least: int, network: str) -> None:
    """Raises ValueError, with the nearest legal sizes, unless both sides are at least ``least`` and ``factor`` fits."""
    if all(side >= least and side % factor == 0 for side in size):
        return
    below = tuple(max(least, side // factor * factor) for side in size)
    above = tuple(max(least, -(-side // factor) * factor) for side in size)
    near = " or ".join(dict.fromkeys(f"{h}x{w}" for h, w in (below, above)))
    raise ValueError(
        f"{network} takes heights and widths that are multiples of {factor} and at least {least}, "
        f"not {size[0]}x{size[1]}; nearest: {near}"
    )
