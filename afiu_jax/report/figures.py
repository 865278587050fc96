"""Pictures side by side: the paper's visual comparison (Figure 6)."""

import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from afiu_jax.report.style import house_style

_LETTERS = 15  # of a title, in a column whose rows are one inch high

Picture = UInt8[np.ndarray, "_h _w ..."]


def comparison(columns: Sequence[tuple[str, Sequence[Picture]]], *, height: float = 1.3) -> Figure:
    """A grid of pictures, one column per title and one row per photo.

    Args:
        columns: titles and their pictures, uint8 ``[h, w, 3]`` or ``[h, w]``, as many in each column.
        height: of a row, in inches.
    """
    rows = len(columns[0][1])
    size = (1.33 * height * len(columns), height * rows)
    with house_style():
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, len(columns), squeeze=False)
        for column, (title, pictures) in enumerate(columns):
            axes[0, column].set_title(textwrap.fill(title, round(_LETTERS * height)))
            for row, picture in enumerate(pictures):
                axes[row, column].imshow(picture, cmap="gray", vmin=0, vmax=255)
                axes[row, column].set_axis_off()
    return figure
