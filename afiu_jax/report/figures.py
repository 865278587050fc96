"""The paper's kinds of figures from our own runs: visual comparison (Figure 6) and loss curves (Figure 7)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")  # files only; no display is needed

import numpy as np
from jaxtyping import UInt8
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

Picture = UInt8[np.ndarray, "h w *c"]


def comparison(columns: Mapping[str, Sequence[Picture]], path: Path, *, height: float = 1.3) -> None:
    """Writes a grid of pictures, one column per title and one row per photo.

    Args:
        columns: pictures by column title, uint8 ``[h, w, 3]`` or ``[h, w]``, as many in each column.
        path: file to write; its ending decides the format.
        height: of a row, in inches.
    """
    rows = len(next(iter(columns.values())))
    figure, axes = plt.subplots(
        rows, len(columns), figsize=(1.33 * height * len(columns), height * rows), squeeze=False, layout="constrained"
    )
    for column, (title, pictures) in enumerate(columns.items()):
        axes[0, column].set_title(title, fontsize=9)
        for row, picture in enumerate(pictures):
            axes[row, column].imshow(picture, cmap="gray", vmin=0, vmax=255)
            axes[row, column].set_axis_off()
    _save(figure, path)


def loss_curves(runs: Mapping[str, Sequence[dict]], path: Path, *, title: str = "") -> None:
    """Writes the training loss of several runs over their steps, each with a running mean over a twentieth of it.

    The axis ends a little above 97 % of the losses, so that a first spike does not flatten the rest.

    Args:
        runs: by label, the lines of ``metrics.jsonl`` (those without ``loss`` are passed over).
        path: file to write; its ending decides the format.
        title: heading of the figure.
    """
    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    every = []
    for label, lines in runs.items():
        steps, losses = np.array([(line["step"], line["loss"]) for line in lines if "loss" in line]).T
        every.append(losses)
        (faint,) = axes.plot(steps, losses, alpha=0.25, linewidth=1)
        axes.plot(steps, _running_mean(losses), color=faint.get_color(), label=label)
    axes.set(xlabel="step", ylabel="training loss (binary cross-entropy)", title=title)
    axes.set_ylim(0, 1.25 * np.quantile(np.concatenate(every), 0.97))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last twentieth of all values, or what there is of it."""
    width = max(1, len(values) // 20)
    total = np.cumsum(np.concatenate([np.zeros(width), values]))
    return (total[width:] - total[:-width]) / np.minimum(np.arange(1, len(values) + 1), width)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
