"""``afiu report``: from folders and runs to a page."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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
        images: folder of the photos, for every mask that has a map; without it masks and maps are shown alone. A photo
            is shown as it is stored, or turned as its EXIF data say where only that has the size of its mask or map.
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
    maps = {name: _files(folder, "maps") for name, folder in predictions.items()}
    truth = _files(masks, "masks") if predictions else {}
    photos = _files(images, "photos") if predictions and images else {}
    scored = {stem for files in maps.values() for stem in files} & truth.keys()
    if photos and (missing := sorted(scored - photos.keys())):
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise UserError(
            f"{images} lacks the picture of {missing[0]}{more}: photos and scored maps must have the same names"
        )
    methods = [
        Method(replace(score(Path(folder), Path(masks)), name=name), _grey(maps[name], invert_predictions))
        for name, folder in predictions.items()
    ]
    return write_report(
        Path(out),
        Content(
            methods=methods,
            mask=_binary(_grey(truth, invert_masks)) if predictions else None,
            photo=_photos(photos, [truth, *maps.values()]) if photos else None,
            runs=read_runs,
            published=cells,
            title=title,
            data=without_home(data),
            command=without_home(shlex.join(["afiu", *sys.argv[1:]]) if command is None else command),
            rows=rows,
            extremes=extremes,
        ),
    )


def _files(folder: Path, what: str) -> dict[str, Path]:
    """A folder's pictures by stem."""
    folder = at_home(folder)
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: name the folder of the {what}")
    try:
        return dict(Photos([folder]).files)
    except DataError as error:
        raise UserError(str(error)) from error


def _grey(files: Mapping[str, Path], invert: bool) -> Show:
    """A function that reads maps or masks by stem."""

    def show(stem: str) -> Picture:
        try:
            picture = read(files[stem], "L")
        except DataError as error:
            raise UserError(str(error)) from error
        return np.invert(picture) if invert else picture

    return show


def _photos(files: Mapping[str, Path], beside: Sequence[Mapping[str, Path]]) -> Show:
    """A function that reads photos by stem.

    Args:
        files: the photos.
        beside: masks and maps. Masks of data sets fit photos as they are stored, maps of ``afiu predict`` fit them as
            they are seen.
    """

    def show(stem: str) -> Picture:
        sizes, stored = set(), None
        for others in beside:
            with suppress(KeyError, DataError):  # a method may lack it, or have a broken one
                sizes.add(read(others[stem], "L").shape)
        with suppress(DataError):  # a TIFF that is to be turned
            stored = read(files[stem], "RGB")
        if stored is not None and stored.shape[:2] in sizes:
            return stored
        try:
            seen = Photos([files[stem]])[0]["image"]
        except DataError as error:
            raise UserError(str(error)) from error
        return seen if stored is None or seen.shape[:2] in sizes else stored

    return show


def _binary(show: Show) -> Show:
    """Masks as they are scored: 255 from 128 on, whatever grey their files hold."""
    return lambda stem: np.where(show(stem) >= 128, np.uint8(255), np.uint8(0))
