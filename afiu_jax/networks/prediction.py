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


def require_multiple(size: tuple[int, int], factor: int, network: str) -> None:
    """Raises ValueError, naming the nearest legal sizes, unless both sides are positive multiples of ``factor``."""
    if all(side > 0 and side % factor == 0 for side in size):
        return
    below = tuple(max(factor, side // factor * factor) for side in size)
    above = tuple(-(-side // factor) * factor or factor for side in size)
    near = " or ".join(dict.fromkeys(f"{h}x{w}" for h, w in (below, above)))
    raise ValueError(
        f"{network} takes heights and widths that are multiples of {factor}, not {size[0]}x{size[1]}; nearest: {near}"
    )
