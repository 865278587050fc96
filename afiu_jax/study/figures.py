"""A study's figures: differences with their intervals, PR and F curves (Figure 5), convergence (Figure 7)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure

from afiu_jax.report.curves import f_curves, loss_curves, pr_curves, validation_curves
from afiu_jax.report.published import METRICS
from afiu_jax.report.style import INK, LINE_CSS, house_style, line_styles
from afiu_jax.report.tables import column
from afiu_jax.scoring import Scored
from afiu_jax.study.results import Entry, Results
from afiu_jax.study.strategies import BASELINE

_LINES = 12  # in one figure of curves; of more, only scratch and the prior are drawn


def start_styles(results: Results) -> dict[str, dict]:
    """The look of every start by its label, the same in all figures of one network."""
    return line_styles(strategy.label for strategy in results.grid.strategies_used.values())


def difference_figure(results: Results, test: str) -> Figure | None:
    """Every start minus scratch with its interval over images, MAE on the left and max F on the right.

    None if nothing was compared yet.
    """
    entries = [entry for entry in results.entries if test in entry.differences]
    if not entries:
        return None
    styles, places = start_styles(results), np.arange(len(entries))[::-1]
    with house_style():
        figure = Figure(figsize=(8.2, 1.3 + 0.3 * len(entries)), layout="constrained")
        panels = figure.subplots(1, len(METRICS), sharey=True)
        for axes, metric in zip(panels, METRICS[::-1], strict=True):
            axes.axvline(0, color=INK, alpha=0.5, linewidth=1)
            for place, entry in zip(places, entries, strict=True):
                found = entry.differences[test][metric]
                color = styles[results.grid.strategies[entry.start].label]["color"]
                if found.low is not None:
                    axes.plot([found.low, found.high], [place, place], color=color, linewidth=2.2)
                axes.plot(found.value, place, "o", color=color, markersize=5)
            score = column(metric)
            axes.set(xlabel=f"{score.label} minus scratch's\n({'left' if score.lower else 'right'} is better)")
            axes.grid(visible=False, axis="y")
            axes.margins(x=0.08)
            axes.ticklabel_format(axis="x", style="plain", useOffset=False)
        panels[0].set(yticks=places, ylim=(-0.6, len(entries) - 0.4))
        panels[0].set_yticklabels([entry.name for entry in entries])
    return figure


def curve_figures(results: Results, test: str) -> dict[str, Figure]:
    """Precision against recall, and F against the threshold, averaged over seeds.

    A colour is a network and a dash a start, unless there are too few of them.
    """
    entries = [entry for entry in results.entries if entry.scored(test)]
    if len(entries) > _LINES:
        kept = [e for network in results.networks for e in (results.entry(network, BASELINE), results.prior(network))]
        entries = [entry for entry in entries if entry in kept]
    if not entries:
        return {}
    styles = styles_of({entry.name: (entry.network, entry.start) for entry in entries})
    methods = [mean_of_seeds(entry, test) for entry in entries]
    return {"pr": pr_curves(methods, styles), "f-threshold": f_curves(methods, styles)}


def styles_of(entries: Mapping[str, tuple[str, str]]) -> dict[str, dict]:
    """``color`` and ``linestyle`` of entries, given their networks and starts by name; no two look alike, up to 24."""
    networks, starts = (list(dict.fromkeys(parts)) for parts in zip(*entries.values(), strict=True))
    colors = [look["color"] for look in line_styles(networks).values()]
    if len(set(colors)) < len(networks) or len(starts) > len(LINE_CSS):
        return line_styles(entries)
    color, dash = dict(zip(networks, colors, strict=True)), dict(zip(starts, LINE_CSS, strict=False))
    return {name: {"color": color[network], "linestyle": dash[start]} for name, (network, start) in entries.items()}


def convergence_figures(results: Results, network: str) -> dict[str, Figure]:
    """Training loss and validation MAE of every start of a network, averaged over seeds.

    A line across marks the baseline's lowest MAE, and a dotted one for each start the step where it gets there.
    """
    styles, strategies = start_styles(results), results.grid.strategies
    entries = [entry for entry in results.entries if entry.network == network]
    logs = {strategies[entry.start].label: mean_log(entry) for entry in entries}
    logs = {label: lines for label, lines in logs.items() if lines}
    if not any("loss" in line for lines in logs.values() for line in lines):
        return {}
    figures = {"loss": loss_curves(logs, styles)}
    if any("val_mae" in line for lines in logs.values() for line in lines):
        figures["validation"] = validation_curves(logs, styles)
    targets = [reached.mae for entry in entries if entry.start == BASELINE for reached in entry.reached]
    for name, figure in figures.items():
        axes = figure.axes[0]
        if targets and name == "validation":
            axes.axhline(fmean(targets), color=INK, alpha=0.5, linewidth=1)
        for entry in entries:
            if entry.mean_steps is not None:
                color = styles[strategies[entry.start].label]["color"]
                axes.axvline(entry.mean_steps, color=color, linestyle=":", linewidth=1.2)
    return figures


def mean_of_seeds(entry: Entry, test: str) -> Scored:
    """One method of an entry's runs: scores and curves are averaged, images have their mean MAE over seeds."""
    runs = entry.scored(test)
    pictures = [
        {"id": images[0]["id"], "mae": fmean(image["mae"] for image in images)}
        for images in zip(*(run.pictures for run in runs), strict=True)
    ]
    return replace(
        runs[0],
        name=entry.name,
        scores={key: fmean(run.scores[key] for run in runs) for key in runs[0].scores},
        curves={key: np.mean([run.curves[key] for run in runs], axis=0) for key in runs[0].curves},
        pictures=pictures,
        image_curves={},
    )


def mean_log(entry: Entry) -> list[dict]:
    """Loss and validation MAE by step, averaged over the seeds, at the steps that all begun runs have."""
    runs = [cell.run.lines for cell in entry.cells if cell.run.lines]
    return _mean_lines(runs, ("loss", "val_mae"))


def _mean_lines(runs: Sequence[Sequence[Mapping]], keys: Sequence[str]) -> list[dict]:
    lines = []
    for key in keys:
        by_step = [{line["step"]: line[key] for line in run if key in line} for run in runs]
        common = set(by_step[0]).intersection(*by_step[1:]) if by_step else ()
        lines += [{"step": step, key: fmean(values[step] for values in by_step)} for step in sorted(common)]
    return lines
