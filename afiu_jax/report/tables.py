"""Scores of several methods as one table: which numbers, in which order, and which of them are best.

``print(formats.to_text(comparison_table([scored, another], published=on_data("CUHK"))))``
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from afiu_jax.errors import UserError
from afiu_jax.report.published import METRICS, Cell, cells
from afiu_jax.scoring import Scored

DIGITS = 4


@dataclass(frozen=True)
class Column:
    """A score.

    Attributes:
        key: its name in ``Scored.scores``.
        label: its name in print.
        latex: the same in LaTeX.
        lower: whether less is better; None: neither is.
        ranked: whether the best value is marked.
    """

    key: str
    label: str
    latex: str
    lower: bool | None = False
    ranked: bool = True

    @property
    def arrow(self) -> str:
        """Which way is better, if any."""
        return "" if self.lower is None else "↓" if self.lower else "↑"


@dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        name: of the method.
        values: scores by key; what was not measured is absent.
        printed: text to show in place of four decimals, by key; for published values, the very text of the paper.
        doubts: for published values, why not to trust them, by key.
        published: whether it is the paper's row, which is never ranked: its protocol is not known to be ours.
        group: rows are compared with those of the same group.
    """

    name: str
    values: Mapping[str, float]
    printed: Mapping[str, str] = field(default_factory=dict)
    doubts: Mapping[str, str] = field(default_factory=dict)
    published: bool = False
    group: str = ""

    def text(self, key: str) -> str:
        """A value as it is shown: its own text, four decimals, or nothing."""
        if key in self.printed:
            return self.printed[key]
        return f"{self.values[key]:.{DIGITS}f}" if key in self.values else ""

    def exact(self, key: str) -> str:
        """The same with every digit that there is."""
        return repr(self.values[key]) if key in self.values and key not in self.printed else self.text(key)


@dataclass(frozen=True)
class Table:
    """Methods by scores.

    Attributes:
        columns: the scores, in the order of print.
        rows: the methods, in the order of print.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Every reason for a doubt, once; a cell refers to it by its place, from 1."""
        shown = (row.doubts[c.key] for row in self.rows for c in self.columns if c.key in row.doubts)
        return tuple(dict.fromkeys(shown))

    @property
    def has_ranks(self) -> bool:
        """Whether any value is the best or the second best."""
        return any(self.rank(row, column) for row in self.rows for column in self.columns)

    def rank(self, row: Row, column: Column) -> int | None:
        """1 for the best value of a column in its group, 2 for the second, equal ones alike; None for all others.

        Values that are equal in print are equal here. Nothing is best without something to compare with.
        """
        if not column.ranked or row.published or column.key not in row.values:
            return None
        rivals = [r for r in self.rows if not r.published and r.group == row.group and column.key in r.values]
        shown = [_shown(r.values[column.key]) for r in rivals]
        places = sorted({value for value in shown if not math.isnan(value)}, reverse=not column.lower)
        value = _shown(row.values[column.key])
        if len(shown) < 2 or value not in places[:2]:
            return None
        return places.index(value) + 1


_COLUMNS = {
    column.key: column
    for column in (
        Column("mae", "MAE", "MAE", lower=True),
        Column("max_f", "max F", r"$F_\beta^{\max}$"),
        Column("max_f_mean_curve", "max F, mean curve", r"$\overline{F}_\beta^{\max}$"),
        Column("mean_f", "mean F", r"$F_\beta^{\mathrm{mean}}$"),
        Column("adaptive_f", "adaptive F", r"$F_\beta^{\mathrm{adp}}$"),
        Column("f_at_half", "F at 0.5", r"$F_\beta^{0.5}$"),
        Column("weighted_f", "weighted F", r"$F_\beta^{w}$"),
        Column("s_measure", "S-measure", r"$S_\alpha$"),
        Column("e_measure_max", "max E", r"$E_\phi^{\max}$"),
        Column("e_measure_mean", "mean E", r"$E_\phi^{\mathrm{mean}}$"),
        Column("e_measure_adaptive", "adaptive E", r"$E_\phi^{\mathrm{adp}}$"),
        Column("iou", "IoU", "IoU"),
        Column("accuracy", "accuracy", "Acc."),
    )
}


def comparison_table(
    methods: Sequence[Scored], keys: Sequence[str] | None = None, published: Sequence[Cell] = ()
) -> Table:
    """Methods against scores; a table of one row is shown as a list of its scores.

    Of methods that were scored on other images than each other none is the best; the number of images stands beside.

    Args:
        methods: in the order of print.
        keys: the scores to show; all that any method has if None.
        published: cells of the paper on the same data, printed first and never ranked.

    Raises:
        UserError: nothing to show, or a key that no method has.
    """
    known = list(dict.fromkeys(key for method in methods for key in method.scores)) or list(METRICS)
    if not methods and not published:
        raise UserError("no method to put into a table: name folders of maps or runs")
    if unknown := [key for key in keys or () if key not in known]:
        raise UserError(f"no score {unknown[0]!r}; there are {', '.join(known)}")
    theirs = tuple(
        Row(f"{cell.name} (paper)", *_of_paper({m: (cell, m) for m in METRICS}), published=True) for cell in published
    )
    columns = [column(key) for key in keys or known]
    if len({frozenset(picture["id"] for picture in method.pictures) for method in methods}) < 2:
        return Table(tuple(columns), theirs + tuple(Row(method.name, method.scores) for method in methods))
    ours = tuple(Row(m.name, {**m.scores, "images": m.images}, {"images": str(m.images)}) for m in methods)
    unranked = [replace(each, ranked=False) for each in columns]
    return Table((Column("images", "images", "images", lower=None, ranked=False), *unranked), theirs + ours)


def beside_paper(table: int, ours: Mapping[tuple[str, bool | None, str], Scored]) -> Table:
    """A whole table of the paper with our values beside its own; what was not run stays empty.

    Args:
        table: 1, 2 or 3.
        ours: by (method, with prior, data set), as ``published.Cell`` names them.

    Raises:
        UserError: no such table, or something of ours that it has no place for.
    """
    rows: dict[tuple[str, bool | None], dict[str, tuple[Cell, str]]] = {}
    for cell in cells(table):
        for metric in METRICS:
            rows.setdefault((cell.method, cell.prior), {})[f"{cell.data} {metric}"] = (cell, metric)
    places = {(cell.method, cell.prior, cell.data) for cell in cells(table)}
    if strange := [place for place in ours if place not in places]:
        raise UserError(f"Table {table} of the paper has no cell {strange[0]}")
    filled = []
    for (method, prior), theirs in rows.items():
        values, printed, doubts = _of_paper(theirs)
        for key, (cell, metric) in theirs.items():
            if scored := ours.get((method, prior, cell.data)):
                values[f"{key} ours"] = scored.scores[metric]
        filled.append(Row(next(iter(theirs.values()))[0].name, values, printed, doubts, published=True))
    columns = []
    for key, (cell, metric) in theirs.items():
        score = column(metric)
        for suffix, who in (("", "paper"), (" ours", "ours")):
            names = (f"{cell.data} {text}, {who}" for text in (score.label, score.latex))
            columns.append(Column(key + suffix, *names, lower=score.lower, ranked=False))
    return Table(tuple(columns), tuple(filled))


def _of_paper(theirs: Mapping[str, tuple[Cell, str]]) -> tuple[dict[str, float], dict[str, str], dict[str, str]]:
    """Values, their printed text and the doubts about them, by key, of cells and the metric that is meant."""
    there = {key: (cell, metric) for key, (cell, metric) in theirs.items() if cell.printed[metric]}
    values = {key: float(cell.printed[metric]) for key, (cell, metric) in there.items()}
    printed = {key: cell.printed[metric] for key, (cell, metric) in there.items()}
    doubts = {key: cell.doubts[metric] for key, (cell, metric) in there.items() if metric in cell.doubts}
    return values, printed, doubts


def column(key: str) -> Column:
    """The column of a score, known or not."""
    return _COLUMNS.get(key) or Column(key, key.replace("_", " "), key.replace("_", r"\_"))


def _shown(value: float) -> float:
    return float(f"{value:.{DIGITS}f}")
