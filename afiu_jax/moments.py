"""Mean and variance of a union of equally large parts, from the parts' own."""

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import ArrayLike, Float, Float64

Moments = Float64[np.ndarray, "2 c"]
"""Mean and variance of every channel."""


def pool(parts: Iterable[Mapping[str, Float[ArrayLike, "2 c"]]]) -> tuple[dict[str, Moments], int]:
    """Moments of a union, for any number of things by name, in float64.

    Args:
        parts: moments of each part; the variance is the biased one. The same names in each.

    Returns:
        The union's moments, and the number of parts.
    """
    count, union = 0, {}
    for part in parts:
        count += 1
        for name, value in part.items():
            mean, var = np.asarray(value, np.float64)
            old_mean, old_var = union.get(name, (0.0, 0.0))
            shift = mean - old_mean
            # The variance of a union: that within its parts and that between their means.
            union_var = old_var + (var - old_var) / count + shift**2 * (count - 1) / count**2
            union[name] = np.stack([old_mean + shift / count, union_var])
    return union, count
