"""How every figure looks: one colour per method everywhere, ink that a page can recolour, PNG and SVG files."""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

INK = "#1c1d20"
"""Text and axes. No line has this colour, so that ``inline_svg`` can exchange it."""

# Okabe and Ito's colours, which people with any colour vision tell apart; without the yellow, which white swallows.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
LINE_CSS = {"solid": "solid", (0, (5, 2)): "dashed", (0, (1, 1.2)): "dotted", (0, (6, 1.5, 1, 1.5)): "double"}
"""The kinds of lines, and what stands for them in a page's style sheet."""

_RULES = {
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a name with dollar signs is a name
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.7,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: searchable on a page, editable by an author
    "svg.hashsalt": "afiu",  # the same figure gives the same file
}
_LABEL_GAP = 1.3  # between labels, in heights of their letters


@contextmanager
def house_style() -> Iterator[None]:
    """Figures that are made and saved inside look alike."""
    with matplotlib.rc_context(_RULES):
        yield


def line_styles(names: Iterable[str]) -> dict[str, dict]:
    """``color`` and ``linestyle`` of every name, by its place: six colours, then the same dashed."""
    looks = ({"color": color, "linestyle": dash} for dash, color in product(LINE_CSS, _COLORS))
    every = list(looks)
    return {name: every[place % len(every)] for place, name in enumerate(dict.fromkeys(names))}


def label_ends(axes: Axes, ends: dict[str, tuple[float, float]], styles: dict[str, dict]) -> None:
    """Writes names to the right of the axes, at the height where their lines end, none over another.

    Args:
        axes: with its final limits.
        ends: last point of every line by name, in data coordinates.
        styles: see ``line_styles``; a leader in the line's colour joins both.
    """
    to_fraction = axes.transData + axes.transAxes.inverted()
    wanted = {name: float(to_fraction.transform(point)[1]) for name, point in ends.items()}
    size = matplotlib.rcParams["font.size"]
    height = axes.get_position().height * axes.figure.get_size_inches()[1] * 72
    places = _spread(wanted, min(_LABEL_GAP * size / height, 1 / max(1, len(wanted) - 1)))
    leader = {"arrowstyle": "-", "linewidth": 1.2, "relpos": (0, 0.5), "shrinkA": 2, "shrinkB": 0}
    for name, place in places.items():
        axes.annotate(
            name,
            xy=ends[name],
            xytext=(1.05, place),
            textcoords="axes fraction",
            va="center",
            # Not in the line's colour: the light ones can be told apart as lines, but not be read as letters.
            arrowprops={**leader, "color": styles[name]["color"]},
            annotation_clip=False,
        )


def save(figure: Figure, path: Path) -> None:
    """Writes a figure; the file's ending decides the format, and without one it is written as PNG and as SVG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with house_style():
        for file in [path] if path.suffix else [path.with_suffix(".png"), path.with_suffix(".svg")]:
            metadata = {"Date": None} if file.suffix == ".svg" else None
            figure.savefig(file, dpi=160, facecolor="white", metadata=metadata)


def inline_svg(figure: Figure, prefix: str, label: str) -> str:
    """A figure as an ``<svg>`` element for a page, which takes the page's text colour and background.

    Args:
        figure: drawn in ``house_style``.
        prefix: put before its ids, since a page has several figures.
        label: what it shows, for those who cannot see it.
    """
    file = io.StringIO()
    with house_style():
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", svg).replace(INK, "currentColor")
    # Its size is the page's business: the picture's own proportions are in its viewBox.
    svg = re.sub(r'^<svg[^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg \1 role="img" aria-label="{label}">', svg)
    return svg.strip()


def _spread(wanted: dict[str, float], gap: float) -> dict[str, float]:
    """Heights in 0…1 as near to the wanted ones as they can be in their order and at least ``gap`` apart."""
    names = sorted(wanted, key=wanted.__getitem__)
    # Less the gaps below it, a height may not be under the one before it: the nearest such sequence is isotonic.
    gaps = gap * np.arange(len(names))
    nearest = isotonic_regression([wanted[name] for name in names] - gaps).x if names else gaps
    return dict(zip(names, (np.clip(nearest, 0, 1 - gaps.max(initial=0)) + gaps).tolist(), strict=True))
