"""``afiu report``: a page on folders of maps, on runs, or on both."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from afiu_jax.commands.evaluate import names_of, print_warnings, test_spec
from afiu_jax.console import open_console, progress
from afiu_jax.errors import UserError
from afiu_jax.evaluation import evaluate_folder
from afiu_jax.inference import Predictor
from afiu_jax.mapfolder import MapFolder
from afiu_jax.maps import map_writer
from afiu_jax.report.command import report
from afiu_jax.scoring import Scored
from input_pipeline.sources import Spec, describe, open_source


def write_report(
    out: Path,
    predictions: Sequence[Path],
    masks: Path | None,
    images: Path | None,
    runs: Sequence[Path],
    *,
    spec: Spec | None = None,
    invert_predictions: bool = False,
    invert_masks: bool = False,
    normalize: bool = False,
    published: str | None = None,
    title: str = "",
) -> Path:
    """Writes ``out/index.html`` with scores, curves and pictures of folders of maps and of runs.

    Without folders of maps, the runs' own maps of their test data (or of ``spec``) are made and scored; they, the
    masks and the photos are kept in ``out``.

    Returns:
        The page.

    Raises:
        UserError: nothing to report, folders that do not fit, runs whose maps mean different things.
    """
    if not predictions and not runs:
        raise UserError("name what to report on: --predictions DIR --masks DIR, or --run DIR")
    trained = dict(zip(names_of(runs), runs, strict=True))
    maps = dict(zip(names_of(predictions), predictions, strict=True))
    data = ""
    if not maps:
        maps, data = _maps_of_runs(trained, spec, out)
        masks, images = out / "masks", out / "images"
    warnings: dict[str, dict[str, None]] = {}

    def score(folder: Path, truth: Path) -> Scored:
        pairs = MapFolder(folder, truth, invert_predictions=invert_predictions, invert_masks=invert_masks)
        scored = evaluate_folder(pairs, name=folder.name, normalize=normalize)
        for kind, lines in pairs.warnings.items():
            warnings.setdefault(kind, {}).update(dict.fromkeys(lines))
        return replace(scored, protocol={**scored.protocol, "data": data or str(truth)})

    page = report(
        out, maps, score, masks=masks, images=images, runs=trained, published=published, title=title, data=data,
        invert_predictions=invert_predictions, invert_masks=invert_masks,
    )  # fmt: skip
    print_warnings({kind: list(lines) for kind, lines in warnings.items()})
    open_console().print(f"report: {page}")
    return page


def _maps_of_runs(runs: dict[str, Path], spec: Spec | None, out: Path) -> tuple[dict[str, Path], str]:
    """Folders of maps by run, and what they were made of; photos and masks go beside them."""
    folders, positive = {}, None
    for name, run in runs.items():
        predictor = Predictor(run)
        if positive not in (None, predictor.positive):
            raise UserError(
                f"1 means {predictor.positive} in {run} but {positive} in the other runs: report them apart"
            )
        chosen = spec or test_spec(predictor)
        source = open_source(chosen, predictor.positive, seed=predictor.config["seed"])
        first, positive = positive is None, predictor.positive
        folders[name] = out / "maps" / name
        save = map_writer(folders[name])
        for folder in ("masks", "images"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        records = (source[i] for i in progress(range(len(source)), f"maps of {name}"))
        for record, found in predictor.maps(records):
            save(record, found)
            if first:
                Image.fromarray(np.where(record["mask"] >= 128, np.uint8(255), np.uint8(0))).save(
                    out / "masks" / f"{record['id']}.png"
                )
                Image.fromarray(record["image"]).save(out / "images" / f"{record['id']}.png")
    return folders, f"{describe(chosen)}; 1 = {positive}"
