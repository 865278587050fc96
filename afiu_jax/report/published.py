"""Tables 1-3 of the paper (arXiv 2011.09677) as data, as printed, with what contradicts itself marked.

``paper/table<n>.csv`` holds the numbers in the paper's order, ``paper/contradictions.toml`` the remarks on them.
Methods go by short keys in lower case, such as ``afiu``, ``u2net`` or ``minet_res50``. Data sets: ``CUHK`` (Shi et
al.) and ``DUT`` in Tables 1 and 2 (defocus blur), and the six of Table 3 (salient objects).
"""

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from afiu_jax.errors import UserError

TABLES = (1, 2, 3)
METRICS = ("max_f", "mae")
_PRIOR = {"yes": True, "no": False, "": None}


@dataclass(frozen=True)
class Cell:
    """What the paper prints for one method on one data set.

    Attributes:
        table: 1, 2 or 3.
        method: key of the method, such as ``afiu``.
        label: its name in print.
        prior: with (True) or without (False) pre-training on salient objects; None where the table does not say.
        data: the data set.
        printed: ``max_f`` and ``mae`` as printed; empty for a dash.
        doubts: why a number cannot be trusted, by ``max_f`` or ``mae``.
    """

    table: int
    method: str
    label: str
    prior: bool | None
    data: str
    printed: Mapping[str, str]
    doubts: Mapping[str, str] = field(default_factory=dict)

    @property
    def max_f(self) -> float | None:
        """Maximal F (β² = 0.3), in 0…1; None for a dash."""
        return self._value("max_f")

    @property
    def mae(self) -> float | None:
        """Mean absolute error, in 0…1; None for a dash."""
        return self._value("mae")

    @property
    def note(self) -> str:
        """Everything that is doubtful about the cell, in one line; empty if nothing is."""
        return "; ".join(dict.fromkeys(self.doubts.values()))

    @property
    def name(self) -> str:
        """The method with its strategy, as a row is called."""
        return self.label + {True: ", with SOD prior", False: ", without SOD prior", None: ""}[self.prior]

    def _value(self, metric: str) -> float | None:
        return float(self.printed[metric]) if self.printed[metric] else None


@dataclass(frozen=True)
class Contradiction:
    """A place where the paper contradicts itself or prints what cannot be.

    Attributes:
        where: the cell or the sections.
        reason: what is wrong.
    """

    where: str
    reason: str


def table1(method: str, *, data: str, prior: bool | None = None) -> Cell:
    """A cell of Table 1, defocus blur detection; ``prior`` tells the two rows of ``afiu`` apart."""
    return _only(cells(1, data=data, method=method, prior=prior))


def table2(method: str, *, prior: bool, data: str) -> Cell:
    """A cell of Table 2, defocus blur detection with and without the prior."""
    return _only(cells(2, data=data, method=method, prior=prior))


def table3(method: str, *, data: str) -> Cell:
    """A cell of Table 3, salient object detection."""
    return _only(cells(3, data=data, method=method))


def cells(
    table: int, *, data: str | None = None, method: str | None = None, prior: bool | None = None
) -> tuple[Cell, ...]:
    """The cells of a table, row by row in the paper's order; None asks for all of them.

    Raises:
        UserError: no such table, data set or method in it.
    """
    if table not in TABLES:
        raise UserError(f"the paper has no results in Table {table}, only in Tables 1, 2 and 3")
    everything = _read(table)
    for asked, known in (
        (data, list(dict.fromkeys(cell.data for cell in everything))),
        (method, list(dict.fromkeys(cell.method for cell in everything))),
    ):
        if asked is not None and asked not in known:
            raise UserError(f"Table {table} of the paper has no {asked!r}; it has {', '.join(known)}")
    return tuple(
        cell
        for cell in everything
        if data in (None, cell.data) and method in (None, cell.method) and prior in (None, cell.prior)
    )


def on_data(data: str, methods: tuple[str, ...] = ("afiu",)) -> tuple[Cell, ...]:
    """What the paper prints for methods on a data set: Table 2 for defocus blur, Table 3 for salient objects.

    Raises:
        UserError: no such data set or method there.
    """
    tables = {cell.data: cell.table for table in (2, 3) for cell in cells(table)}
    if data not in tables:
        raise UserError(f"the paper prints no results on {data!r}; it does on {', '.join(tables)}")
    return tuple(cell for method in methods for cell in cells(tables[data], data=data, method=method))


@cache
def contradictions() -> tuple[Contradiction, ...]:
    """All that was found, cells first."""
    remarks = _remarks()
    found = []
    for remark in remarks["cell"]:
        cell = _only(cells(remark["table"], data=remark["data"], method=remark["method"], prior=remark.get("prior")))
        numbers = " and ".join(cell.printed[metric] for metric in remark["metrics"])
        found.append(Contradiction(f"Table {cell.table}, {cell.name}, {cell.data}: {numbers}", remark["reason"]))
    return (*found, *(Contradiction(remark["where"], remark["reason"]) for remark in remarks["text"]))


@cache
def _read(table: int) -> tuple[Cell, ...]:
    text = (files(__package__) / "paper" / f"table{table}.csv").read_text(encoding="utf-8")
    found = []
    for row in csv.DictReader(text.splitlines()):
        prior = _PRIOR[row["prior"]]
        for data in (column.removesuffix(" mae") for column in row if column.endswith(" mae")):
            printed = {metric: row[f"{data} {metric}"] for metric in METRICS}
            doubts = _doubts(table, row["method"], prior, data)
            found.append(Cell(table, row["method"], row["label"], prior, data, printed, doubts))
    return tuple(found)


def _doubts(table: int, method: str, prior: bool | None, data: str) -> dict[str, str]:
    return {
        metric: remark["reason"]
        for remark in _remarks()["cell"]
        if (remark["table"], remark["method"], remark.get("prior"), remark["data"]) == (table, method, prior, data)
        for metric in remark["metrics"]
    }


@cache
def _remarks() -> dict[str, list[dict]]:
    return tomllib.loads((files(__package__) / "paper" / "contradictions.toml").read_text(encoding="utf-8"))


def _only(found: tuple[Cell, ...]) -> Cell:
    if len(found) != 1:
        raise ValueError(f"{len(found)} cells, not one: say whether with the prior: {[cell.name for cell in found]}")
    return found[0]
