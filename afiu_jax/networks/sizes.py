"""Which image sizes a network can take, and how it refuses the others."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LegalSizes:
    """Sides ``n = multiple · k + d`` with ``first <= d <= last``, and ``n`` at least ``least``; every side if 1.

    Attributes:
        multiple: distance between legal sides, in pixels.
        first: least offset from a multiple.
        last: greatest offset from a multiple.
        least: smallest legal side.
    """

    multiple: int = 1
    first: int = 0
    last: int = 0
    least: int = 1

    def __contains__(self, side: int) -> bool:
        return side >= self.least and (side - self.first) % self.multiple <= self.last - self.first

    def nearest(self, side: int) -> tuple[int, int]:
        """The greatest legal side that is not above ``side`` (else the least legal one), and the next not below."""
        least = next(n for n in range(self.least, self.least + self.multiple + 1) if n in self)
        below = next((n for n in range(side, least, -1) if n in self), least)
        return below, next(n for n in range(max(side, least), max(side, least) + self.multiple + 1) if n in self)

    def require(self, size: tuple[int, int], network: str) -> None:
        """Raises ValueError, with the nearest legal sizes, unless both sides are legal."""
        if all(side in self for side in size):
            return
        below, above = zip(*(self.nearest(side) for side in size), strict=True)
        near = " or ".join(dict.fromkeys(f"{h}x{w}" for h, w in (below, above)))
        raise ValueError(f"{network} takes {self}, not {size[0]}x{size[1]}; nearest: {near}")

    def __str__(self) -> str:
        if self.multiple == 1:
            kind = "any height and width"
        elif self.first == self.last == 0:
            kind = f"heights and widths that are multiples of {self.multiple}"
        else:
            offsets = (f"{self.multiple}k{d:+d}" if d else f"{self.multiple}k" for d in {self.first: 0, self.last: 0})
            kind = f"heights and widths of {' to '.join(offsets)}"
        return f"{kind} and at least {self.least}" if self.least > 1 else kind
