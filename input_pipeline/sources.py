"""Which data a specification means: ``open_source(spec, positive)`` gives the one interface to all of them.

====================  =================================================================================
``spec.name``         data
====================  =================================================================================
``folder``            images and masks in ``path[/split]``
``scenes``            generated scenes; needs no files
``bokeh``             defocus composited from the SOD source ``spec.source`` at ``path``
any other             a TFDS data set prepared in ``path``, ours (``afiu data list``) or anybody's
====================  =================================================================================

``split`` may end in a slice for every source: ``train``, ``train[:90%]``, ``[100:]``.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from jaxtyping import UInt8

from input_pipeline.bokeh import RADIUS, Bokeh
from input_pipeline.folder import Folder
from input_pipeline.polarity import looks_inverted
from input_pipeline.records import DataError, Meaning, Record, Source
from input_pipeline.scenes import Scenes
from input_pipeline.skipping import Faults, Skipping

GENERATED = ("bokeh", "scenes")
"""Data of which a seed decides what there is."""


@dataclass(frozen=True)
class Spec:
    """Names a data set.

    Attributes:
        name: ``folder``, ``scenes``, ``bokeh`` or a TFDS name.
        path: the folder; for TFDS the data folder, its default if None.
        split: part of the data; for ``folder`` a sub-folder of ``path``, or nothing.
        white: what 255 means in the masks. None: ``salient`` in a folder; TFDS data sets of ours know it.
        images_dir: the images' folder, for ``folder``.
        masks_dir: the masks' folder, for ``folder``.
        source: what ``bokeh`` composites from: ``folder``, ``scenes`` or a TFDS name.
        radius: range of ``bokeh``'s blur radius relative to the photo's longest side.
    """

    name: str
    path: str | None = None
    split: str | None = None
    white: Meaning | None = None
    images_dir: str = "images"
    masks_dir: str = "masks"
    source: str = "folder"
    radius: tuple[float, float] | list[float] = RADIUS


def open_source(spec: Spec, positive: Meaning, *, seed: int = 0, faults: Faults | None = None) -> Source:
    """Opens and checks a data set; in the masks of what it returns, 255 is ``positive``.

    Args:
        spec: which data.
        positive: the task's target.
        seed: of what is generated: scenes, bokeh.
        faults: where what cannot be used is noted and left out, see ``skipping``; None: it is an error.

    Raises:
        DataError: bad data (see ``folder.Folder`` and ``tfds_source.open_tfds``), a slice that leaves nothing, masks
            that cannot serve the task, such as salient objects for ``positive = "blur"``, or that hold 0 and 1 in
            place of 0 and 255.
    """
    _require_meanings(spec, positive)
    source, indices = _part(spec, positive, seed, faults)
    flip = source.white != positive
    if flip and "salient" in (source.white, positive):
        raise DataError(
            f"the masks of {describe(spec)} mark {source.white}, the task wants {positive}: name bokeh composites "
            "blur from salient masks; white=blur or white=focus corrects a wrong declaration"
        )
    _require_scaled(View(source, indices, source.white, False), spec)
    view = View(source, indices, positive, flip)
    return view if faults is None else Skipping(view)


def open_declared(spec: Spec, *, faults: Faults | None = None) -> Source:
    """Opens a data set with its masks as they are; a record that cannot be read is an error when it is asked for.

    Arguments and errors as of ``open_source``.
    """
    positive = spec.white or "salient"
    _require_meanings(spec, positive)
    source, indices = _part(spec, positive, 0, faults)
    return View(source, indices, source.white, False)


def _require_scaled(source: Source, spec: Spec, samples: int = 5) -> None:
    """Masks of 0 and 1 would be empty without a word; a few of them tell."""
    if spec.name not in GENERATED and _largest_values(source, samples) == {1}:
        raise DataError(
            f"the masks of {describe(spec)} hold 0 and 1, and a target is what is from 128 on: save them in 8 bits, "
            "with 255 in place of 1"
        )


def odd_masks(source: Source, spec: Spec) -> list[str]:
    """What a few masks say against what they are declared to mark, a line each for people; nothing as a rule.

    Args:
        source: what ``open_source`` gave.
        spec: of it.
    """
    lines, masks = [], f"the masks of {describe(spec)}"
    if _look_faint(source, spec):
        lines.append(f"{masks} nowhere reach 128, from where on they mark anything: afiu data check says which")
    if looks_inverted(source):
        lines.append(
            f"{masks} look inverted: what they call blurred is sharper than the rest; check what white is said to mean "
            "(--white, data.*.white)"
        )
    return lines


def origin(spec: Spec) -> str:
    """Name of what photos come from: of bokeh, what it is composited from."""
    return spec.source if spec.name == "bokeh" else spec.name


def _look_faint(source: Source, spec: Spec, samples: int = 5) -> bool:
    """Whether no mask marks anything, from 128 on, though some are not empty."""
    return spec.name not in GENERATED and 0 < max(_largest_values(source, samples), default=0) < 128


def _largest_values(source: Source, samples: int) -> set[int]:
    """The largest value of each of some masks as they are stored, but for those that are empty."""
    found = set()
    for index in np.linspace(0, len(source) - 1, min(samples, len(source))).astype(int):
        with suppress(DataError):  # which is for whoever asks for the record
            found.add(int(stored_mask(source, source[int(index)]).max()))
    return found - {0}


def parts_of(spec: Spec) -> list[str | None]:
    """The splits of a TFDS data set; of others, of which no list says what parts they have, the one that is named.

    Raises:
        DataError: a TFDS data set that is not prepared, or cannot be read.
    """
    if spec.split or origin(spec) in ("folder", "scenes"):
        return [spec.split]
    from input_pipeline.tfds_source import split_names  # not above: TFDS takes a while to load

    return split_names(origin(spec), spec.path)


def _require_meanings(spec: Spec, positive: str) -> None:
    for meaning, what in ((spec.white, "white"), (positive, "task.positive")):
        if meaning is not None and meaning not in get_args(Meaning):
            raise DataError(f"{what} is {meaning!r}; it says what 255 marks: {', '.join(get_args(Meaning))}")


def _part(spec: Spec, positive: Meaning, seed: int, faults: Faults | None) -> tuple[Source, range]:
    """The source, and which of its records the specification means."""
    split, start, stop = _parse_split(spec.split)
    source = _open(replace(spec, split=split), positive, seed, faults)
    indices = range(len(source))[start(len(source)) : stop(len(source))]
    if not indices:
        raise DataError(f"{describe(spec)}: nothing is left of {len(source)} records after the slice")
    return source, indices


def describe(spec: Spec) -> str:
    """The specification in a few words, for messages."""
    inner = f" of {spec.source}" if spec.name == "bokeh" else ""
    return " ".join(part for part in (spec.name + inner, spec.path, spec.split) if part)


def describe_drawn(spec: Spec, seed: int) -> str:
    """The same with what decides the pixels of generated data: ``scenes test[:4], seed 0``."""
    radius = f", blur radius {spec.radius[0]:g} to {spec.radius[1]:g}" if spec.name == "bokeh" else ""
    return describe(spec) + (f"{radius}, seed {seed}" if spec.name in GENERATED else "")


class View:
    """Some records of a source, with the polarity that the task wants."""

    def __init__(self, source: Source, indices: range, positive: Meaning, flip: bool):
        self.source, self.indices, self.white, self.flip = source, indices, positive, flip

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record:
        record = self.source[self.indices[index]]
        return {**record, "mask": 255 - record["mask"]} if self.flip else record


def stored_mask(source: Source, record: Record) -> UInt8[np.ndarray, "h w"]:
    """The mask of a record of ``open_source`` as its file holds it, before it was turned to what the task wants."""
    view = source.source if isinstance(source, Skipping) else source
    return 255 - record["mask"] if isinstance(view, View) and view.flip else record["mask"]


def _open(spec: Spec, positive: Meaning, seed: int, faults: Faults | None) -> Source:
    if spec.name == "scenes":
        return Scenes(white=positive, split=spec.split or "train", seed=seed)
    if spec.name == "bokeh":
        if spec.source == "bokeh":
            raise DataError("bokeh composites from a SOD source; source is folder, scenes or a TFDS name")
        if len(spec.radius) != 2:
            raise DataError(f"the radius of bokeh is {spec.radius}; it is a range, of two numbers")
        salient = replace(spec, name=spec.source)
        subjects = _open(salient, "salient", seed, faults)
        _require_scaled(subjects, salient)
        if _look_faint(subjects, salient):
            raise DataError(
                f"the masks of {describe(salient)} nowhere reach 128, from where on they mark anything: nothing in it "
                "is a subject to be sharp before a blurred background"
            )
        try:
            return Bokeh(subjects, seed=seed, radius=tuple(spec.radius))
        except ValueError as error:
            raise DataError(f"{describe(spec)}: {error}") from error
    if spec.name == "folder":
        if not spec.path:
            raise DataError("data of name folder needs a path: the folder that holds images/ and masks/")
        root = f"{spec.path}/{spec.split}" if spec.split else spec.path
        return Folder(root, spec.white or "salient", spec.images_dir, spec.masks_dir, faults)
    from input_pipeline.tfds_source import open_tfds  # not above: TFDS takes a while to load

    return open_tfds(spec.name, spec.split or "train", spec.path, spec.white)


def _parse_split(split: str | None) -> tuple[str, Callable[[int], int], Callable[[int], int]]:
    """``train[10%:]`` as its name and two functions from the number of records to start and stop."""
    match = re.fullmatch(r"([^\[\]]*)(?:\[(\d+%?)?:(\d+%?)?\])?", split or "")
    if not match:
        raise DataError(f"split {split!r} is not of the form name, name[:100], name[90%:]")
    name, start, stop = match.groups()
    if "+" in name and "[" in split:
        raise DataError(f"split {split!r}: a slice would be one of all of {name}; name one part and its slice")

    def position(text: str | None, default: Callable[[int], int]) -> Callable[[int], int]:
        if text is None:
            return default
        if text.endswith("%"):
            return lambda n: round(n * int(text[:-1]) / 100)
        return lambda n: int(text)

    return name, position(start, lambda n: 0), position(stop, lambda n: n)
