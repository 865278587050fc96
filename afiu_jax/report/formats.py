"""A table as text, CSV, Markdown and LaTeX."""

import csv
import io
import re
from collections.abc import Callable, Mapping

from rich.cells import cell_len

from afiu_jax.report.tables import Column, Row, Table

_TEXT_MARKS = {1: "*", 2: "+", None: ""}
_LATEX_SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def to_text(table: Table, *, second: bool = True) -> str:
    """Aligned columns for a terminal: ``*`` is best and, if ``second``, ``+`` second best; a list of one method."""

    def marks(row: Row, column: Column) -> str:
        return _TEXT_MARKS[_rank(table, row, column, second)] + _note(table, row, column, " [{}]")

    def cells(column: Column) -> list[str]:
        # Marks are filled up to the longest of the column, so that the numbers stand below each other.
        width = max(len(marks(row, column)) for row in table.rows)
        return [row.text(column.key) + marks(row, column).ljust(width) for row in table.rows]

    if len(table.rows) == 1:
        lines = _aligned([["", table.rows[0].name], *([column.label, *cells(column)] for column in table.columns)])
        return "\n".join([*lines, *_notes(table)]) + "\n"
    header = ["", *(f"{column.label} {column.arrow}".strip() for column in table.columns)]
    names = [row.name for row in table.rows]
    lines = _aligned([header, *map(list, zip(names, *map(cells, table.columns), strict=True))])
    ranks = {_rank(table, row, column, second) for row in table.rows for column in table.columns}
    legend = ", ".join(text for rank, text in ((1, "* best"), (2, "+ second best")) if rank in ranks)
    return "\n".join([*lines, *([legend] if legend else []), *_notes(table)]) + "\n"


def to_csv(table: Table) -> str:
    """One row per method, always; the numbers in full precision, the published as they are printed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["method", *(column.key for column in table.columns)])
    for row in table.rows:
        writer.writerow([row.name, *(row.exact(column.key) for column in table.columns)])
    return out.getvalue()


def to_markdown(table: Table, *, second: bool = True) -> str:
    """A pipe table: best in bold and, if ``second``, second best in italics; a list of one method."""
    marks = {1: "**{}**", 2: "*{}*", None: "{}"}

    def cell(row: Row, column: Column) -> str:
        value = marks[_rank(table, row, column, second)].format(row.text(column.key))
        return value + _note(table, row, column, " [{}]")

    def line(cells: list[str]) -> str:
        return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in cells)} |"

    def plain(name: str) -> str:
        return re.sub(r"([\\`*_<\[])", r"\\\1", name)

    if len(table.rows) == 1:
        row = table.rows[0]
        body = [[column.label, cell(row, column)] for column in table.columns]
        lines = [line(["", plain(row.name)]), "|---|---:|", *map(line, body)]
    else:
        header = ["", *(f"{column.label} {column.arrow}".strip() for column in table.columns)]
        body = [[plain(row.name), *(cell(row, column) for column in table.columns)] for row in table.rows]
        lines = [line(header), f"|---|{'---:|' * len(table.columns)}", *map(line, body)]
    notes = _notes(table)
    return "\n".join([*lines, *(["", *(f"{note}  " for note in notes)] if notes else [])]) + "\n"


def to_latex(table: Table, *, second: bool = True) -> str:
    r"""A ``tabular`` for booktabs: best in ``\textbf``, and, if ``second``, second best in ``\underline``."""
    marks = {1: r"\textbf{{{}}}", 2: r"\underline{{{}}}", None: "{}"}

    def cell(row: Row, column: Column) -> str:
        value = marks[_rank(table, row, column, second)].format(escaped(row.text(column.key)))
        return value + _note(table, row, column, "$^{{{}}}$")

    def line(cells: list[str]) -> str:
        # After a line's end LaTeX takes "[" for the beginning of a length, and "*" for a part of the command.
        return f"  {{}}{' & '.join(cells)} \\\\"

    if len(table.rows) == 1:
        row, layout = table.rows[0], "lr"
        header = ["Score", escaped(row.name)]
        body = [[column.latex, cell(row, column)] for column in table.columns]
    else:
        layout = "l" + "r" * len(table.columns)
        header = ["Method", *(f"{column.latex} {escaped(column.arrow)}".strip() for column in table.columns)]
        body = [[escaped(row.name), *(cell(row, column) for column in table.columns)] for row in table.rows]
    lines = [rf"\begin{{tabular}}{{{layout}}}", r"  \toprule", line(header), r"  \midrule", *map(line, body)]
    notes = [f"% {note}" for note in _notes(table)]
    return "\n".join(["% needs \\usepackage{booktabs}", *lines, r"  \bottomrule", r"\end{tabular}", *notes]) + "\n"


FORMATS: Mapping[str, Callable[[Table], str]] = {
    "txt": to_text,
    "csv": to_csv,
    "md": to_markdown,
    "tex": to_latex,
}
"""The formats by their files' ending."""


def _rank(table: Table, row: Row, column: Column, second: bool) -> int | None:
    rank = table.rank(row, column)
    return rank if second or rank == 1 else None


def _note(table: Table, row: Row, column: Column, form: str) -> str:
    """The number of a cell's doubt, in a form; nothing if it is not doubted."""
    return form.format(table.notes.index(row.doubts[column.key]) + 1) if column.key in row.doubts else ""


def _aligned(rows: list[list[str]]) -> list[str]:
    """Lines of equal columns, the first to the left, numbers to the right; widths as a terminal counts them."""
    widths = [max(cell_len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [first + " " * (widths[0] - cell_len(first))]
        cells += [" " * (width - cell_len(text)) + text for text, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _notes(table: Table) -> list[str]:
    return [f"[{number}] {note}" for number, note in enumerate(table.notes, 1)]


def escaped(text: str) -> str:
    """Text as LaTeX takes it."""
    return "".join(_LATEX_SIGNS.get(sign, sign) for sign in text)
