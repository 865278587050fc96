"""One HTML page of results that opens from a disk without a network, and the files that a paper needs beside it.

``OUT/index.html`` holds everything that it shows; ``OUT/figures`` has its figures as PNG and SVG, ``OUT/scores.*`` its
table as text, CSV, Markdown and LaTeX.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from afiu_jax.errors import UserError
from afiu_jax.report import curves
from afiu_jax.report.figures import Picture, comparison
from afiu_jax.report.formats import FORMATS
from afiu_jax.report.gallery import common_ids, data_uri, extremes, mae_by_id, spread_over_difficulty, thumbnail
from afiu_jax.report.provenance import versions
from afiu_jax.report.published import Cell
from afiu_jax.report.runs import Run, config_differences
from afiu_jax.report.style import LINE_CSS, inline_svg, line_styles, save
from afiu_jax.report.tables import comparison_table
from afiu_jax.scoring import Scored

GENERATOR = "afiu report"
THUMBNAIL = 256  # longer side, in pixels: twice what a wide window shows

Show = Callable[[str], Picture]
"""An image's picture by its id, uint8 ``[h, w, 3]`` or ``[h, w]``."""


@dataclass(frozen=True)
class Method:
    """A method that was scored.

    Attributes:
        scored: its scores.
        show: its maps.
    """

    scored: Scored
    show: Show


@dataclass(frozen=True)
class Content:
    """What a page shows.

    Attributes:
        methods: in the order of print; may be empty if there are runs.
        mask: the masks; needed with methods.
        photo: the photos; without them masks and maps are shown alone.
        runs: training runs. One that is called like a method has its colour.
        published: cells of the paper to print above the scores.
        title: heading; made from what there is if empty.
        data: name of the data set; that of the methods' protocol if empty.
        command: the command line that makes this page.
        rows: images in the visual comparison.
        extremes: worst and best images of every method.
    """

    methods: Sequence[Method] = ()
    mask: Show | None = None
    photo: Show | None = None
    runs: Sequence[Run] = ()
    published: Sequence[Cell] = ()
    title: str = ""
    data: str = ""
    command: str = ""
    rows: int = 8
    extremes: int = 3

    @cached_property
    def styles(self) -> dict[str, dict]:
        """How the lines of every method and run are drawn."""
        return line_styles([*(method.name for method in self.scored), *(run.name for run in self.runs)])

    @property
    def scored(self) -> list[Scored]:
        """The scores of every method."""
        return [method.scored for method in self.methods]


def write_report(out: Path, content: Content) -> Path:
    """Writes the page, its figures and its table.

    Args:
        out: folder to write; made if need be. An earlier report in it is replaced.
        content: what the page shows.

    Returns:
        The page.

    Raises:
        UserError: neither methods nor runs; a page that is no report stands there.
    """
    if not content.methods and not content.runs:
        raise UserError("nothing to report: name folders of maps or training runs")
    page = own_page(out)
    out.mkdir(parents=True, exist_ok=True)
    figures = _figures(content)
    table = comparison_table(content.scored, published=content.published) if content.methods else None
    grid = visual_grid(content) if content.methods else None
    text = template("page.html").render(
        generator=GENERATOR,
        content=content,
        title=content.title or _title(content),
        lede=_lede(content),
        line_css=LINE_CSS,
        table=table,
        endings=list(FORMATS),
        protocol=_protocol(content.scored),
        remarks=_remarks(content.scored),
        figures={name: Markup(inline_svg(figure, name, _ALT[name])) for name, figure in figures.items()},
        grid=grid,
        galleries=[_gallery(method, content) for method in content.methods],
        differences=config_differences(content.runs),
        versions=versions(),
    )
    text = text.encode("utf-8", "backslashreplace")  # names of files need not be text
    # All at once and at last: what stands there without a page would be taken for somebody else's.
    for old in _files(out):
        old.unlink(missing_ok=True)
    for name, figure in {**figures, **({_GRID: grid.figure} if grid else {})}.items():
        save(figure, out / "figures" / name)
    for ending, render in FORMATS.items() if table else ():
        (out / f"scores.{ending}").write_text(render(table), encoding="utf-8")
    page.write_bytes(text)
    return page


def own_page(out: Path) -> Path:
    """The page of a report in this folder, which may be there already.

    Raises:
        UserError: a page that is no report stands there, or scores or figures without a page.
    """
    page = out / "index.html"
    if page.exists() and f'content="{GENERATOR}"' not in page.read_text(encoding="utf-8", errors="replace"):
        raise UserError(f"{page} is not a report of afiu: name another folder")
    if not page.exists() and (others := [file for file in _files(out) if file.exists()]):
        raise UserError(f"{others[0]} is there already, without a report of afiu: move it, or name another folder")
    return page


def _files(out: Path) -> list[Path]:
    """What a report may have besides its page."""
    files = [out / f"scores.{ending}" for ending in FORMATS]
    return files + [out / "figures" / f"{name}{ending}" for name in (*_ALT, _GRID) for ending in (".png", ".svg")]


def template(name: str) -> jinja2.Template:
    """One of the pages in ``templates/``."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("afiu_jax.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name)


@dataclass(frozen=True)
class Tile:
    """A small picture of the page: its address, its size, and what it shows."""

    src: str
    width: int
    height: int
    alt: str
    mae: float | None = None


@dataclass(frozen=True)
class VisualGrid:
    """A visual comparison.

    Attributes:
        titles: of the columns.
        rows: for each photo its name and its tiles.
        figure: the same as a figure.
    """

    titles: list[str]
    rows: list[tuple[str, list[Tile]]]
    figure: Figure


_HEADLINE = {"polarity": "Polarity", "max F": "Max F"}
"""Lines of the protocol that open the page, and what they are called there."""

_GRID = "comparison"

_ALT = {
    "pr": "Precision against recall of every method",
    "f-threshold": "F against the threshold of every method",
    "loss": "Training loss against steps of every run",
    "validation": "Validation MAE against steps of every run",
}


def _figures(content: Content) -> dict[str, Figure]:
    figures = {}
    if content.methods:
        figures["pr"] = curves.pr_curves(content.scored, content.styles)
        figures["f-threshold"] = curves.f_curves(content.scored, content.styles)
    if content.runs:
        lines = {run.name: run.lines for run in content.runs}
        figures["loss"] = curves.loss_curves(lines, content.styles)
        if any(run.best for run in content.runs):
            figures["validation"] = curves.validation_curves(lines, content.styles)
    return figures


def visual_grid(content: Content) -> VisualGrid | None:
    """The visual comparison: photo, mask and every method's map of images from easy to hard.

    None if the methods have no image in common, or none is asked for.
    """
    if not (images := spread_over_difficulty(content.scored, content.rows)):
        return None
    # A method may be called as the mask is.
    shows = [(title, show, {}) for title, show in _given(content).items()]
    shows += [(method.scored.name, method.show, mae_by_id(method.scored)) for method in content.methods]
    columns: list[tuple[str, list[Picture]]] = [(title, []) for title, _, _ in shows]
    rows = []
    for image in images:
        tiles = []
        for (title, show, errors), (_, column) in zip(shows, columns, strict=True):
            column.append(small := thumbnail(show(image), THUMBNAIL))
            tiles.append(_tile(small, f"{title} of {image}", errors.get(image)))
        rows.append((image, tiles))
    return VisualGrid([title for title, _ in columns], rows, comparison(columns, height=1.1))


def _gallery(method: Method, content: Content) -> dict:
    """The worst and the best images of a method, each as photo, mask and map."""
    errors = mae_by_id(method.scored)
    shows = {**_given(content), "map": method.show}

    def card(image: str) -> dict:
        tiles = [_tile(thumbnail(show(image), THUMBNAIL), f"{what} of {image}") for what, show in shows.items()]
        return {"id": image, "mae": errors[image], "tiles": tiles}

    worst, best = extremes(method.scored, content.extremes)
    return {"name": method.scored.name, "worst": list(map(card, worst)), "best": list(map(card, best))}


def _given(content: Content) -> dict[str, Show]:
    return {what: show for what, show in (("photo", content.photo), ("mask", content.mask)) if show}


def _tile(small: Picture, alt: str, mae: float | None = None) -> Tile:
    return Tile(data_uri(small), small.shape[1], small.shape[0], alt, mae)


def _title(content: Content) -> str:
    if not content.methods:
        return f"{_counted({len(content.runs)}, 'training run')}"
    names = [method.name for method in content.scored]
    what = names[0] if len(names) == 1 else _counted({len(names)}, "method")
    return f"{what} on {_data(content)}" if _data(content) else f"Scores of {what}"


def _data(content: Content) -> str:
    return content.data or _agreed(content.scored).get("data", "")


def _agreed(methods: Sequence[Scored]) -> dict[str, str]:
    """The lines of the protocol that hold for all methods."""
    return {key: values[0][0] for key, values in _protocol(methods) if len(values) == 1}


def _lede(content: Content) -> str:
    """One paragraph: what was scored, what 1 means, and how the headline is defined, where all methods agree."""
    images = _counted({len(method.pictures) for method in content.scored}, "image")
    of = f" of {_data(content)}" if _data(content) else ""
    sentences = [f"{_counted({len(content.methods)}, 'method')}, scored on {images}{of}"]
    agreed = _agreed(content.scored)
    sentences += [f"{what}: {agreed[key]}" for key, what in _HEADLINE.items() if key in agreed]
    return ". ".join([*sentences, "Less is better for MAE, more for every other score."])


def _protocol(methods: Sequence[Scored]) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """What belongs beside the numbers: each value with the methods that it holds for, none if for all."""
    lines = []
    for key in dict.fromkeys(key for method in methods for key in method.protocol):
        holders: dict[str, list[str]] = {}
        for method in methods:
            holders.setdefault(method.protocol.get(key, "not said"), []).append(method.name)
        lines.append((key, [(value, names if len(holders) > 1 else []) for value, names in holders.items()]))
    return lines


def _remarks(methods: Sequence[Scored]) -> list[str]:
    """What a reader has to know before comparing the methods."""
    remarks = []
    shared = len(common_ids(methods))
    if any(len(method.pictures) != shared for method in methods):
        remarks.append(f"The methods were scored on different images; {shared} are common to all of them.")
    for method in methods:
        if method.resized:
            remarks.append(f"{method.name}: {_counted({method.resized}, 'map')} resized to the mask's size.")
        if method.left_out:
            remarks.append(f"{method.name}: {_counted({method.left_out}, 'image')} left out, see the scoring's output.")
    return remarks


def _counted(numbers: set[int], what: str) -> str:
    """``1 image``, ``100 images``, ``98 to 100 images``."""
    if not numbers:
        return ""
    count = " to ".join(f"{number:,}" for number in sorted({min(numbers), max(numbers)}))
    return f"{count} {what}" + ("" if numbers == {1} else "s")
