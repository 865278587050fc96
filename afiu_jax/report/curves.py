"""The paper's kinds of curves: precision against recall, F against the threshold (Figure 5), training (Figure 7)."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from afiu_jax.metrics import BETA2
from afiu_jax.report.style import house_style, label_ends, line_styles
from afiu_jax.scoring import Scored

_WIDTH, _HEIGHT = 5.4, 3.7  # inches
_LINE = 0.2  # inches that a name takes beside a figure
_INSIDE = 8  # so many names fit into the axes
_SHORT = 16  # characters of a name of which two columns fit
_HIDDEN = 0.97  # quantile of the losses above which a first spike is cut off


def pr_curves(methods: Sequence[Scored], styles: Mapping[str, dict] | None = None) -> Figure:
    """Precision against recall, both averaged over images at each threshold; a dot marks where F is highest.

    Args:
        methods: with ``precision`` and ``recall`` among their curves.
        styles: see ``style.line_styles``; by the methods' own places if None.
    """
    styles = styles or line_styles(method.name for method in methods)
    with house_style():
        below = len(methods) > _INSIDE
        columns = 2 if max(len(method.name) for method in methods) <= _SHORT else 1
        figure = _figure(_HEIGHT + _LINE * math.ceil(len(methods) / columns) if below else _HEIGHT)
        axes = figure.subplots()
        for method in sorted(methods, key=lambda m: -f_curve(m).max()):
            precision, recall = method.curves["precision"], method.curves["recall"]
            best = f_curve(method).argmax()
            label = f"{f_curve(method)[best]:.4f}  {method.name}"
            axes.plot(recall, precision, label=label, **styles[method.name])
            axes.plot(recall[best], precision[best], "o", markersize=4, color=styles[method.name]["color"])
        lowest = min(method.curves["precision"].min() for method in methods)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(np.floor(lowest * 10) / 10, 1.01))
        if below:
            figure.legend(title="max F", alignment="left", loc="outside lower left", ncols=columns)
        else:
            axes.legend(title="max F", alignment="left", loc="best")
    return figure


def f_curves(methods: Sequence[Scored], styles: Mapping[str, dict] | None = None) -> Figure:
    """F of the averaged precision and recall against the threshold; the highest point, marked, is ``max_f``.

    Args:
        methods: with ``precision`` and ``recall`` among their curves.
        styles: see ``style.line_styles``; by the methods' own places if None.
    """
    styles = styles or line_styles(method.name for method in methods)
    with house_style():
        figure = _figure(_height_for(len(methods)))
        axes = figure.subplots()
        ends = {}
        for method in methods:
            curve = f_curve(method)
            axes.plot(curve, **styles[method.name])
            axes.plot(curve.argmax(), curve.max(), "o", markersize=4, color=styles[method.name]["color"])
            ends[method.name] = (255.0, float(curve[-1]))
        axes.set(xlabel="threshold", ylabel="F (β² = 0.3)", xlim=(0, 255), ylim=(0, 1.01), xticks=range(0, 256, 51))
        label_ends(axes, ends, styles)
    return figure


def f_curve(method: Scored) -> Float[np.ndarray, " 256"]:
    """F at every threshold, of the precision and recall that are averaged over images (equation 3)."""
    return f_of(method.curves["precision"], method.curves["recall"])


def f_of(precision: Float[np.ndarray, "*n 256"], recall: Float[np.ndarray, "*n 256"]) -> Float[np.ndarray, "*n 256"]:
    """F at every threshold of precision and recall there (equation 3)."""
    return (1 + BETA2) * precision * recall / np.maximum(BETA2 * precision + recall, 1e-12)


def loss_curves(
    runs: Mapping[str, Sequence[dict]], styles: Mapping[str, dict] | None = None, *, title: str = ""
) -> Figure:
    """The training loss of several runs over their steps, each with a running mean over a twentieth of it.

    The axis ends a little above 97 % of the losses, so that a first spike does not flatten the rest.

    Args:
        runs: by name, the lines of ``metrics.jsonl``; those without ``loss`` are passed over.
        styles: see ``style.line_styles``; by the runs' own places if None.
        title: heading of the figure.
    """
    styles = styles or line_styles(runs)
    with house_style():
        figure = _figure(_height_for(len(runs)))
        axes = figure.subplots()
        every, ends = [], {}
        for name, lines in runs.items():
            steps, losses = _series(lines, "loss")
            if len(steps):
                every.append(losses)
                mean = _running_mean(losses)
                axes.plot(steps, losses, color=styles[name]["color"], alpha=0.25, linewidth=0.8)
                axes.plot(steps, mean, **styles[name])
                ends[name] = (float(steps[-1]), float(mean[-1]))
        axes.set(xlabel="step", ylabel="training loss", title=title, xlim=(0, _last_step(runs)))
        if every:
            axes.set_ylim(0, 1.25 * np.quantile(np.concatenate(every), _HIDDEN))
        label_ends(axes, ends, styles)
    return figure


def validation_curves(
    runs: Mapping[str, Sequence[dict]], styles: Mapping[str, dict] | None = None, *, title: str = ""
) -> Figure:
    """The validation MAE of several runs over their steps, the lowest of each marked.

    Args:
        runs: by name, the lines of ``metrics.jsonl``; those without ``val_mae`` are passed over.
        styles: see ``style.line_styles``; by the runs' own places if None.
        title: heading of the figure.
    """
    styles = styles or line_styles(runs)
    with house_style():
        figure = _figure(_height_for(len(runs)))
        axes = figure.subplots()
        ends = {}
        for name, lines in runs.items():
            steps, errors = _series(lines, "val_mae")
            if len(steps):
                best = errors.argmin()
                axes.plot(steps, errors, **styles[name])
                axes.plot(steps[best], errors[best], "o", markersize=4, clip_on=False, color=styles[name]["color"])
                ends[name] = (float(steps[-1]), float(errors[-1]))
        axes.set(xlabel="step", ylabel="validation MAE", title=title, xlim=(0, _last_step(runs)), ylim=(0, None))
        label_ends(axes, ends, styles)
    return figure


def _figure(height: float) -> Figure:
    return Figure(figsize=(_WIDTH, height), layout="constrained")


def _height_for(names: int) -> float:
    """Inches in which so many names stand below each other beside the axes."""
    return max(_HEIGHT, _LINE * names + 1)


def _series(lines: Sequence[dict], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the lines that have a key."""
    points = [(line["step"], line[key]) for line in lines if key in line]
    return np.array([step for step, _ in points]), np.array([value for _, value in points])


def _last_step(runs: Mapping[str, Sequence[dict]]) -> int:
    return max((line["step"] for lines in runs.values() for line in lines), default=1)


def _running_mean(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Mean over the last twentieth of all values, or what there is of it."""
    width = max(1, len(values) // 20)
    total = np.cumsum(np.concatenate([np.zeros(width), values]))
    return (total[width:] - total[:-width]) / np.minimum(np.arange(1, len(values) + 1), width)
