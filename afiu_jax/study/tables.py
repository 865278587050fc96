"""A study's two tables: the paper's Table 2 with its own numbers beside, and every start with its difference."""

from collections.abc import Sequence

from afiu_jax.report.formats import escaped
from afiu_jax.report.published import METRICS, cells
from afiu_jax.report.runs import without_home
from afiu_jax.report.tables import Column, Row, Table, column
from afiu_jax.study.differences import Difference
from afiu_jax.study.results import Entry, Results, mean_and_spread
from afiu_jax.study.strategies import BASELINE

_STEPS = "steps"


def paper_table(results: Results) -> Table:
    """Two rows for each network, without and with the prior, the better of the two marked; what was not run is empty.

    Our columns of a test set that is one of the paper's stand beside the paper's; its other numbers follow, since they
    are of other photos.
    """
    printed = {(cell.method, cell.prior, cell.data): cell for cell in cells(2)}
    shown = [test.paper for test in results.grid.tests.values() if test.paper]
    columns: list[Column] = []
    for test in results.grid.tests.values():
        columns += _columns(test.name, "ours") + (_columns(test.paper, "paper") if test.paper else [])
    for data in dict.fromkeys(data for *_, data in printed):
        columns += _columns(data, "paper") if data not in shown else []
    rows = []
    for network, label in results.networks.items():
        for prior, entry in ((False, results.entry(network, BASELINE)), (True, results.prior(network))):
            values, texts, doubts = _measured(results, entry)
            for (method, with_prior, data), cell in printed.items():
                if (method, with_prior) == (network, prior):
                    for metric in METRICS:
                        key = f"{data} {metric} paper"
                        values[key], texts[key] = float(cell.printed[metric]), cell.printed[metric]
                        doubts |= {key: cell.doubts[metric]} if metric in cell.doubts else {}
            name = entry.name if entry else f"{label}, {'with' if prior else 'without'} SOD prior"
            rows.append(Row(name, values, texts, doubts, group=network))
    return Table(tuple(columns), tuple(rows))


def starts_table(results: Results) -> Table:
    """Every network and start: scores, differences from scratch with their intervals, steps to scratch's best."""
    columns: list[Column] = []
    for test in results.grid.tests:
        for metric in METRICS:
            score = column(metric)
            columns.append(_column(test, metric, "ours"))
            name, latex = f"{test} Δ{score.label}", rf"{escaped(test)} $\Delta${score.latex}"
            columns.append(Column(f"{test} {metric} difference", name, latex, score.lower, ranked=False))
    columns.append(Column(_STEPS, "steps to scratch's best", "steps to scratch's best", lower=True))
    rows = []
    for entry in results.entries:
        values, texts, doubts = _measured(results, entry)
        for test, found in entry.differences.items():
            texts |= {f"{test} {metric} difference": interval(found[metric]) for metric in METRICS}
        texts[_STEPS] = reached(entry)
        if entry.mean_steps is not None:
            values[_STEPS] = entry.mean_steps
        rows.append(Row(entry.name, values, texts, doubts, group=entry.network))
    return Table(tuple(columns), tuple(rows))


def interval(difference: Difference) -> str:
    """``-0.0203 [-0.0229, -0.0178]``."""
    ends = f" [{difference.low:+.4f}, {difference.high:+.4f}]" if difference.low is not None else ""
    return f"{difference.value:+.4f}{ends}"


def reached(entry: Entry) -> str:
    """Steps to the baseline's best, averaged over seeds, or of how many seeds it was not reached."""
    if not entry.reached:
        return ""
    if entry.mean_steps is not None:
        return f"{entry.mean_steps:.0f}"
    missed = sum(r.step is None for r in entry.reached)
    return "not reached" if missed == len(entry.reached) else f"not reached by {missed} of {len(entry.reached)} seeds"


def spread(values: Sequence[float]) -> str:
    """``0.0931 ± 0.0012``, without the latter for a single value; nothing for none."""
    mean, deviation = mean_and_spread(values)
    if mean is None:
        return ""
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ± {deviation:.4f}"


def failures(entry: Entry) -> str:
    """Which runs failed and why, in one line; empty if none did."""
    failed = [cell for cell in entry.cells if cell.status == "failed"]
    return "; ".join(f"{cell.job.name} failed: {without_home(cell.state.failure)}" for cell in failed)


def _measured(results: Results, entry: Entry | None) -> tuple[dict[str, float], dict[str, str], dict[str, str]]:
    """Values, texts and doubts of a row, of our columns."""
    values, texts, doubts = {}, {}, {}
    for test in results.grid.tests if entry else ():
        for metric in METRICS:
            key = f"{test} {metric} ours"
            if each := entry.values(test, metric):
                values[key], texts[key] = mean_and_spread(each)[0], spread(each)
            if why := failures(entry):
                doubts[key] = why
    return values, texts, doubts


def _columns(data: str, who: str) -> list[Column]:
    return [_column(data, metric, who, f", {who}") for metric in METRICS]


def _column(data: str, metric: str, who: str, ending: str = "") -> Column:
    score = column(metric)
    name, latex = f"{data} {score.label}{ending}", f"{escaped(data)} {score.latex}{ending}"
    return Column(f"{data} {metric} {who}", name, latex, score.lower)
