"""``afiu report``: from folders and runs to a page."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from afiu_jax.errors import UserError
from afiu_jax.report.figures import Picture
from afiu_jax.report.page import Content, Method, Show, write_report
from afiu_jax.report.published import on_data
from afiu_jax.report.runs import read_run, without_home
from afiu_jax.scoring import Scored
from input_pipeline.folder import read
from input_pipeline.paths import at_home
from input_pipeline.photos import Photos
from input_pipeline.records import DataError


def report(
    out: Path,
    predictions: Mapping[str, Path],
    score: Callable[[Path, Path], Scored],
    *,
    masks: Path | None = None,
    images: Path | None = None,
    runs: Mapping[str, Path] | None = None,
    published: str | None = None,
    published_methods: Sequence[str] = ("afiu",),
    title: str = "",
    data: str = "",
    rows: int = 8,
    extremes: int = 3,
    invert_predictions: bool = False,
    invert_masks: bool = False,
    command: str | None = None,
) -> Path:
    """Scores folders of maps and writes a report of them and of training runs.

    Args:
        out: folder of the report.
        predictions: folders of maps by the name of their method.
        score: ``(folder of maps, folder of masks) -> Scored``.
        masks: folder of the masks; needed with maps.
        images: folder of the photos; without it masks and maps are shown alone.
        runs: work directories of training runs by name.
        published: data set whose numbers in the paper are printed above the scores, such as ``CUHK``.
        published_methods: whose numbers, by their keys in ``published``.
        title: heading of the page.
        data: name of the data set.
        rows: images in the visual comparison.
        extremes: worst and best images of every method.
        invert_predictions: show maps inverted; that they are scored so is for ``score`` to do.
        invert_masks: the same of masks.
        command: the command line that the page quotes; that of this process if None.

    Returns:
        The page.

    Raises:
        UserError: a folder that is missing, empty or lacks pictures; no such published numbers; nothing to report.
    """
    if predictions and masks is None:
        raise UserError("maps are scored against masks: name the folder of the masks")
    if published and not predictions:
        raise UserError("the paper's numbers stand beside scores: name folders of maps, too")
    # Everything is looked at before the first folder is scored, which may take minutes.
    cells = on_data(published, tuple(published_methods)) if published else ()
    read_runs = [read_run(name, Path(folder)) for name, folder in (runs or {}).items()]
    maps = {name: _folder(folder, "maps", "L", invert_predictions) for name, folder in predictions.items()}
    mask = _binary(_folder(masks, "masks", "L", invert_masks)) if predictions else None
    photo = _folder(images, "photos", "RGB") if predictions and images else None
    methods = [
        Method(replace(score(Path(folder), Path(masks)), name=name), maps[name]) for name, folder in predictions.items()
    ]
    return write_report(
        Path(out),
        Content(
            methods=methods,
            mask=mask,
            photo=photo,
            runs=read_runs,
            published=cells,
            title=title,
            data=without_home(data),
            command=without_home(shlex.join(["afiu", *sys.argv[1:]]) if command is None else command),
            rows=rows,
            extremes=extremes,
        ),
    )


def _folder(folder: Path, what: str, mode: str, invert: bool = False) -> Show:
    """A function that reads a folder's pictures by stem."""
    folder = at_home(folder)
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: name the folder of the {what}")
    try:
        paths = dict(Photos([folder]).files)
    except DataError as error:
        raise UserError(str(error)) from error

    def show(stem: str) -> Picture:
        if stem not in paths:
            raise UserError(f"{folder} lacks the picture of {stem}: {what} and scored maps must have the same names")
        try:
            picture = read(paths[stem], mode)
        except DataError as error:
            raise UserError(str(error)) from error
        return np.invert(picture) if invert else picture

    return show


def _binary(show: Show) -> Show:
    """Masks as they are scored: 255 from 128 on, whatever grey their files hold."""
    return lambda stem: np.where(show(stem) >= 128, np.uint8(255), np.uint8(0))
