"""``afiu import-weights``: a file of published weights becomes a checkpoint like those of a run."""

import hashlib
import json
from collections import defaultdict
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import get_args

import numpy as np
import optax
from flax import nnx
from rich.table import Table

from afiu_jax.console import open_console, progress
from afiu_jax.errors import UserError
from afiu_jax.interop.calibrate import calibrate
from afiu_jax.interop.exported import read_use
from afiu_jax.interop.torch_checkpoint import Report, load_torch_checkpoint
from afiu_jax.networks import create_model
from afiu_jax.networks.published import PUBLISHED
from afiu_jax.training.checkpoint import Checkpoints, has_checkpoints
from afiu_jax.training.config import resolve
from afiu_jax.training.schema import Resolved, base_config
from afiu_jax.training.state import create_state
from afiu_jax.workdir import sole_use
from input_pipeline.loader import Preparation
from input_pipeline.paths import at_home
from input_pipeline.photos import Photos
from input_pipeline.records import Meaning

CALIBRATION_PHOTOS = 500
"""At most so many photos of a folder give statistics; half a second each, and more change nothing that matters."""


def import_weights(
    name: str,
    source: Path,
    out: Path,
    *,
    preset: str = "",
    photos: Path | None = None,
    positive: str | None = None,
) -> Report:
    """Writes ``out/checkpoints/0``, which ``--init_from``, ``predict`` and ``evaluate`` take, and ``out/import.json``.

    Args:
        name: the network's key in ``NETWORKS``.
        source: the file, see ``load_torch_checkpoint``.
        out: a work directory; made if need be.
        preset: one of the network's presets, for a file that does not say its options.
        photos: a folder of photos from which the statistics of folded batch normalisations are recovered, from
            ``CALIBRATION_PHOTOS`` of them if it holds more; without it, such a network can be used but not trained.
        positive: what 1 means in its maps: salient, blur or focus; what the file says if None, else salient.

    Returns:
        What went where.

    Raises:
        UserError: as ``load_torch_checkpoint``; a checkpoint there already; photos for a file that folded nothing;
            a network, a preset or a meaning other than a file of ``afiu export`` says.
        DataError: no photos there.
    """
    config = _configuration(name, preset, at_home(source), positive)
    if has_checkpoints(out):
        raise UserError(f"{out} has checkpoints already: name another --out")
    pictures = Photos([photos]) if photos else None
    model = create_model(name, **config["model"]["options"])
    report = load_torch_checkpoint(model, source)
    if pictures and not report.folded:
        raise UserError(f"{source} has the statistics of its batch normalisations: leave out --calibrate")
    console = open_console()
    console.print(f"{source}: {report.describe()}")
    console.print(modules_table(report, model))
    calibrated_on = 0
    if pictures:
        chosen = evenly_spread(len(pictures), CALIBRATION_PHOTOS)
        of_all = f", evenly spread over the {len(pictures)} of {photos}" if len(chosen) < len(pictures) else ""
        console.print(f"statistics of {len(report.folded)} batch normalisations from {len(chosen)} photos{of_all}")
        preparation = Preparation.of(config["data"])
        images = (preparation.finish(preparation.shrink(pictures[i]))["image"] for i in progress(chosen, "calibrating"))
        calibrated_on = calibrate(model, report.folded, images)
    if report.folded and not pictures:
        console.print("without --calibrate PHOTOS this can be used, but training would undo it", style="yellow")
    config["imported"] = {"from": str(at_home(source).absolute())}
    _write(out, model, config)
    found = {"network": name, "sha256": _sha256(source), "photos": calibrated_on, **asdict(report)}
    (out / "import.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    console.print(f"wrote {out}: train.py --init_from, afiu predict and afiu evaluate --checkpoint take it")
    return report


def evenly_spread(count: int, most: int) -> list[int]:
    """Indices among ``count``, all of them or ``most`` at equal distances, the first and the last included."""
    return [int(i) for i in np.linspace(0, count - 1, min(count, most)).round()]


def published_config(name: str, preset: str = "") -> Resolved:
    """The configuration of a network as it was published: its image size and preparation, salient objects.

    Raises:
        UserError: unknown network or preset.
    """
    config = base_config()
    config.model.name, config.model.preset = name, preset
    if name in PUBLISHED:
        config.data.image_size, config.data.antialias = PUBLISHED[name].image_size, PUBLISHED[name].antialias
    return resolve(config)


def _configuration(name: str, preset: str, source: Path, positive: str | None) -> Resolved:
    """The configuration that a file of ours brings along, else that of the published network."""
    config = published_config(name, preset)
    if positive not in (None, *get_args(Meaning)):
        raise UserError(f"--white is {positive!r}; it says what 255 marks: {', '.join(get_args(Meaning))}")
    if source.suffix != ".safetensors" or not source.is_file() or not (use := read_use(source)):
        positive = positive or "salient"
        task = "sod" if positive == "salient" else "dbd"
        return {**config, "task": {"name": task, "positive": positive}}
    for flag, asked, said in (("--model", name, use["model"]["name"]), ("--white", positive, use["task"]["positive"])):
        if asked not in (None, said):
            raise UserError(f"{source} says {said} of itself, and {flag} {asked}: say the same")
    if preset and config["model"]["options"] != use["model"]["options"]:
        raise UserError(f"{source} says its options itself, and they are not those of {preset}: leave out --preset")
    return {
        **config,
        "task": use["task"],
        "model": {**config["model"], "options": use["model"]["options"]},
        "data": {**config["data"], **use["data"]},
    }


def modules_table(report: Report, model: nnx.Module) -> Table:
    """For each of our top-level modules: the published name that its arrays share, and how many there are."""
    groups = defaultdict(dict)
    for key, path in report.loaded.items():
        groups[path.partition(".")[0]][key] = path
    sizes = {".".join(map(str, path)): leaf.size for path, leaf in nnx.to_flat_state(nnx.state(model))}
    table = Table("published", "here")
    table.add_column("arrays", justify="right")
    table.add_column("numbers", justify="right")
    for module in vars(model):
        if places := groups.get(module):
            numbers = sum(sizes[path] for path in places.values())
            table.add_row(_common_name(list(places)), module, str(len(places)), f"{numbers:,}")
    return table


def _common_name(keys: list[str]) -> str:
    """The modules that all keys begin with; else the first key's, of several."""
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*(key.split(".") for key in keys), strict=False))
    return ".".join(parts[0] for parts in shared) or f"{keys[0].partition('.')[0]}, …"


def _write(out: Path, model: nnx.Module, config: Resolved) -> None:
    # Step 0 of a run that has no optimiser.
    folder = at_home(out).absolute()
    with sole_use(folder, advice="name another --out") as hold, Checkpoints(folder, 1, hold) as checkpoints:
        checkpoints.save(create_state(model, optax.identity()), config, None)
        checkpoints.wait()


def _sha256(path: Path) -> str:
    with at_home(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
