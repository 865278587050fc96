"""``afiu report``: a page on folders of maps, on runs, or on both."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from afiu_jax.commands.evaluate import names_of, print_warnings, test_spec, with_radius_of
from afiu_jax.console import open_console, progress
from afiu_jax.errors import UserError
from afiu_jax.evaluation import evaluate_folder
from afiu_jax.inference import Predictor, meaning_of_maps
from afiu_jax.mapfolder import MapFolder
from afiu_jax.maps import map_writer
from afiu_jax.own_pictures import keep_only, own_folder, save
from afiu_jax.report.command import report
from afiu_jax.report.page import own_page
from afiu_jax.report.runs import read_run, without_home
from afiu_jax.scoring import Scored
from input_pipeline.paths import at_home
from input_pipeline.records import Meaning
from input_pipeline.sources import Spec, describe, describe_drawn, odd_masks, open_source


def write_report(
    out: Path,
    predictions: Sequence[Path],
    masks: Path | None,
    images: Path | None,
    runs: Sequence[Path],
    *,
    spec: Spec | None = None,
    path: str | None = None,
    split: str | None = None,
    invert_predictions: bool = False,
    invert_masks: bool = False,
    normalize: bool = False,
    published: str | None = None,
    title: str = "",
) -> Path:
    """Writes ``out/index.html`` with scores, curves and pictures of folders of maps and of runs.

    Without folders of maps, the runs' own maps of their test data (with ``path`` and ``split`` in place of its own), or
    of ``spec``, are made and scored; they, the masks and the photos are kept in ``out``, in place of an earlier
    report's.

    Returns:
        The page.

    Raises:
        UserError: nothing to report, folders that do not fit, runs whose maps mean different things, pictures or a page
            in ``out`` that are not of this program.
    """
    if not predictions and not runs:
        raise UserError("name what to report on: --predictions DIR --masks DIR, or --run DIR")
    own_page(out)
    trained = dict(zip(names_of(runs), runs, strict=True))
    for name, run in trained.items():
        read_run(name, run)  # before maps are made, which may take minutes
    maps = dict(zip(names_of(predictions), predictions, strict=True))
    data = ""
    if not maps:
        maps, data = _maps_of_runs(trained, spec, out, path, split)
        masks, images = out / "masks", out / "images"
    warnings: dict[str, dict[str, None]] = {}

    def score(folder: Path, truth: Path) -> Scored:
        pairs = MapFolder(folder, truth, invert_predictions=invert_predictions, invert_masks=invert_masks)
        scored = evaluate_folder(pairs, name=folder.name, normalize=normalize)
        for kind, lines in pairs.warnings.items():
            warnings.setdefault(kind, {}).update(dict.fromkeys(lines))
        return replace(scored, protocol={**scored.protocol, "data": without_home(data or str(truth))})

    page = report(
        out, maps, score, masks=masks, images=images, runs=trained, published=published, title=title, data=data,
        invert_predictions=invert_predictions, invert_masks=invert_masks,
    )  # fmt: skip
    print_warnings({kind: list(lines) for kind, lines in warnings.items()})
    open_console().print(f"report: {page}")
    return page


def _maps_of_runs(
    runs: dict[str, Path], spec: Spec | None, out: Path, path: str | None, split: str | None
) -> tuple[dict[str, Path], str]:
    """Folders of maps by run, and what they were made of; photos and masks go beside them."""
    chosen, positive, seed = _common_data(runs, spec, path, split)
    if chosen.path and at_home(chosen.path).resolve().is_relative_to(out.resolve()):
        raise UserError(f"{describe(chosen)} lies in {out}, where the report goes: name another folder with -o")
    source = open_source(chosen, positive, seed=seed)
    print_warnings({"odd masks": odd_masks(source, chosen)})
    folders = {name: own_folder(out / "maps" / name) for name in runs}
    masks, images = own_folder(out / "masks"), own_folder(out / "images")
    for number, (name, run) in enumerate(runs.items()):
        predictor = Predictor(run)
        write, written = map_writer(folders[name], predictor.about), set()
        records = (source[i] for i in progress(range(len(source)), f"maps of {name}"))
        for record, found in predictor.maps(records):
            write(record, found)
            written.add(f"{record['id']}.png")
            if number == 0:
                mask = np.where(record["mask"] >= 128, np.uint8(255), np.uint8(0))
                save(Image.fromarray(mask), masks / f"{record['id']}.png", f"mask of {describe(chosen)}")
                save(Image.fromarray(record["image"]), images / f"{record['id']}.png", f"photo of {describe(chosen)}")
        for folder in (folders[name], masks, images):
            keep_only(folder, written)
    return folders, f"{describe_drawn(chosen, seed)}; 1 = {positive}"


def _common_data(
    runs: dict[str, Path], spec: Spec | None, path: str | None, split: str | None
) -> tuple[Spec, Meaning, int]:
    """What all runs are scored on, what 1 means in their maps, and the seed of what is generated, the first run's.

    One data set for all: what is generated has other masks under the same names with another run's seed. Found from
    their configurations alone, before the first network is at work.

    Raises:
        UserError: runs whose maps mean different things, or that have different test data.
    """
    # Orbax takes a while to import, which reports of folders need not wait for.
    from afiu_jax.training.checkpoint import read_config

    (first, *others), configs = runs, {name: read_config(run) for name, run in runs.items()}
    positive = meaning_of_maps(configs[first])
    chosen = with_radius_of(configs[first], spec) if spec else test_spec(configs[first], first, path, split)
    for name in others:
        if positive != (other := meaning_of_maps(configs[name])):
            raise UserError(f"1 means {other} in {runs[name]} but {positive} in the other runs: report them apart")
        if not spec and chosen != (own := test_spec(configs[name], name, path, split)):
            raise UserError(
                f"{runs[name]} has {describe(own)} for its test data and the runs before it {describe(chosen)}, or "
                "with other options: say with --data what all are scored on"
            )
    return chosen, positive, configs[first]["seed"]
