"""``afiu predict``: maps and other pictures of photos."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from afiu_jax.console import open_console, progress
from afiu_jax.errors import UserError
from afiu_jax.inference import Predictor, Size, checked_size
from afiu_jax.memory import keep_freed_memory
from afiu_jax.own_pictures import require_ours
from afiu_jax.own_pictures import save as save_picture
from afiu_jax.views import VIEWS, View, render
from afiu_jax.weights import DEFAULTS
from input_pipeline.photos import Photos
from input_pipeline.pictures import EXTENSIONS
from input_pipeline.records import DataError, Record

_BATCH = 8

_LONGEST_NAME = 255  # bytes that file systems allow


def predict(
    photos: Sequence[str],
    out: Path,
    *,
    weights: str | None = None,
    task: str | None = None,
    size: str | None = None,
    save: str = "map",
) -> int:
    """Writes ``out/<stem>.png``, and ``out/<stem>.<view>.png`` for every view but the map.

    Args:
        photos: files, folders and patterns.
        out: folder of the pictures; made if need be. A name that ends in .png is the file of a single picture.
        weights: see ``load_weights``; the network of the task unless told.
        task: dbd or sod; of the weights unless told, dbd if there are none either.
        size: side of the square that photos are resized to, or ``native``; that of the training unless told.
        save: views, separated by commas.

    Returns:
        How many photos could not be read. They are named on the error stream.

    Raises:
        UserError: a wrong request, a file that would be replaced, or none of the photos could be read.
        DataError: no such photos.
    """
    if not all(map(str, photos)):
        raise UserError("a photo is named '': name photos, or a folder of them")
    views = _views(save)
    source = Photos(photos)
    targets = _targets(out, source, views)
    keep_freed_memory()
    predictor = Predictor(
        weights or DEFAULTS[_task(task) or "dbd"], size=_size(size), batch_size=_BATCH, shrink_first=True
    )
    if _task(task) and (task == "sod") != (predictor.positive == "salient"):
        raise UserError(f"{predictor.name} marks what is {predictor.positive}: --task and --weights contradict")
    failures: list[str] = []
    console, errors = open_console(), open_console(stderr=True)
    try:
        for record, found in predictor.maps(_readable(source, failures)):
            for view in views:
                picture = render(view, record["image"], found, predictor.positive, record["profile"])
                save_picture(picture, targets[record["id"], view], predictor.about)
    finally:
        for line in failures:
            errors.print(f"error: {line}", style="red")
    done = len(source) - len(failures)
    if not done:
        raise UserError(f"none of {len(source)} photos could be read: nothing was written")
    where = next(iter(targets.values())) if len(targets) == 1 else next(iter(targets.values())).parent
    what = f"{done} photos" if done > 1 else "1 photo"
    console.print(f"{what}: {', '.join(views)} in {where}; white = {predictor.positive}; network: {predictor.name}")
    return len(failures)


def _views(save: str) -> list[View]:
    names = list(dict.fromkeys(name.strip() for name in save.split(",")))
    if unknown := [name for name in names if name not in VIEWS]:
        raise UserError(f"--save {unknown[0]!r} is unknown; give one or more of {','.join(VIEWS)}")
    return names


def _task(task: str | None) -> str | None:
    if task not in (None, *DEFAULTS):
        raise UserError(f"--task {task!r} is unknown; it is one of {', '.join(DEFAULTS)}")
    return task


def _size(size: str | None) -> Size | None:
    if size is None:
        return None
    is_number = size.isdecimal() and len(size) < 10  # Python refuses to read one of thousands of digits
    return checked_size(int(size) if is_number else size)


def _targets(out: Path, source: Photos, views: Sequence[View]) -> dict[tuple[str, View], Path]:
    """Where each picture goes; nothing that this command did not write itself may be there."""
    inputs = {path.resolve() for _, path in source.files}
    if out.suffix.lower() == ".png" and not out.is_dir():
        if len(source) * len(views) > 1:
            raise UserError(f"{out} is one file, and this gives {len(source) * len(views)} pictures: name a folder")
        targets = {(source.files[0][0], views[0]): out}
    elif not out.is_dir() and (out.exists() or out.suffix.lower() in EXTENSIONS):
        raise UserError(f"{out} is no folder, and pictures are written as PNG: name a folder, or one .png file")
    else:
        targets = {
            (stem, view): out / (f"{stem}.png" if view == "map" else f"{stem}.{view}.png")
            for stem, _ in source.files
            for view in views
        }
    taken: dict[Path, str] = {}
    for (stem, _), path in targets.items():
        if path.resolve() in inputs:
            raise UserError(f"{path} would replace a photo: name another folder with -o")
        if len(os.fsencode(path.name)) > _LONGEST_NAME:
            raise UserError(
                f"a picture of {stem} would have a name of more than {_LONGEST_NAME} bytes: rename the photo"
            )
        if path in taken:
            raise UserError(f"{taken[path]} and {stem} would both give {path}: predict one into another folder")
        taken[path] = stem
        require_ours(path)
    next(iter(targets.values())).parent.mkdir(parents=True, exist_ok=True)
    return targets


def _readable(source: Photos, failures: list[str]) -> Iterator[Record]:
    for i in progress(range(len(source)), "predicting"):
        try:
            record = source[i]
        except DataError as error:
            failures.append(str(error))
            continue
        yield record
