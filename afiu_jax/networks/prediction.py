"""What every network returns."""

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
