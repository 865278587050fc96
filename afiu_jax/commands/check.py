"""``afiu data check``: reads whole data sets, and says what is wrong with them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from afiu_jax.console import open_console, progress
from input_pipeline.check import Findings, duplicates, read_whole
from input_pipeline.sources import Spec, describe, open_declared, parts_of

_SHOWN = 5  # of one kind; the JSON file has all


def check(spec: Spec, splits: Sequence[str], json_file: Path | None = None) -> int:
    """Reads a data set and prints what it holds.

    Args:
        spec: the data.
        splits: its parts, to be compared with each other; if there are none, all of a TFDS data set, and other data as
            a whole.
        json_file: where everything is written, if not None.

    Returns:
        How many problems there are: records that cannot be used, photos that are there twice, masks without any pixel
        from 128 on that are not black, and one for each part whose masks look inverted.

    Raises:
        DataError: data of which nothing can be used.
    """
    console, parts = open_console(), {}
    for part in splits or parts_of(spec):
        chosen, faults = replace(spec, split=part), {}
        source = open_declared(chosen, faults=faults)
        name = describe(chosen)
        parts[name] = read_whole(source, faults, partial(progress, description=name))
        _show(console, name, parts[name])
    twice = duplicates(parts)
    _list(console, "photos that are there twice", [f"{a[1]} of {a[0]} = {b[1]} of {b[0]}" for a, b in twice])
    if json_file:
        report = {name: found.as_dict() for name, found in parts.items()}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"parts": report, "duplicates": twice}, indent=2)
        json_file.write_text(text + "\n", encoding="utf-8")
    count = sum(len(found.problems) + len(found.unscaled) + found.inverted for found in parts.values()) + len(twice)
    console.print(f"{count} problems" if count else "no problems")
    return count


def _show(console: Console, name: str, found: Findings) -> None:
    console.print(f"{name}: {found.images} pairs can be read; 255 marks {found.white}")
    if found.images:
        widths, heights = np.array(found.sizes).T
        masks = found.as_dict()["masks"]
        console.print(
            f"  sizes: {widths.min()}…{widths.max()} x {heights.min()}…{heights.max()}, "
            f"median {int(np.median(widths))} x {int(np.median(heights))}"
        )
        console.print(
            f"  masks: {masks['mean_share']:.1%} marked on average, {len(masks['empty'])} empty, "
            f"{len(masks['full'])} full, {masks['grey_share']:.2%} of the pixels grey"
        )
    _list(console, "cannot be used", list(found.problems.values()))
    _list(console, "masks that nowhere reach 128, though they are not black", found.unscaled)
    wrong = [name for name, contradicts in found.votes.items() if contradicts]
    if found.inverted:
        console.print(f"  the masks look inverted on {len(wrong)} of {len(found.votes)} photos: check --white")
    else:
        _list(console, f"of {len(found.votes)} photos, sharpness contradicts the mask", wrong)


def _list(console: Console, what: str, lines: Sequence[str]) -> None:
    if lines:
        console.print(f"  {what}: {len(lines)}")
        for line in lines[:_SHOWN]:
            console.print(f"    {line}")
        if len(lines) > _SHOWN:
            console.print(f"    and {len(lines) - _SHOWN} more")
