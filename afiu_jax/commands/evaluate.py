"""``afiu evaluate``: scores of maps on disk or of a checkpoint, with what they mean beside them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from afiu_jax.console import open_console
from afiu_jax.errors import UserError
from afiu_jax.evaluation import evaluate, evaluate_folder
from afiu_jax.inference import Predictor
from afiu_jax.mapfolder import MapFolder
from afiu_jax.maps import map_writer
from afiu_jax.own_pictures import earlier, own_folder
from afiu_jax.report import formats
from afiu_jax.report.tables import comparison_table
from afiu_jax.scoring import Scored
from input_pipeline.bokeh import RADIUS
from input_pipeline.paths import at_home
from input_pipeline.pictures import EXTENSIONS
from input_pipeline.sources import Spec, describe, describe_drawn, odd_masks, open_source, origin

_SHOWN = 5  # warnings of one kind; the others are counted


@dataclass(frozen=True)
class Outputs:
    """Files to write, each if not None. What is surely no place for scores is refused, before anything is scored.

    Attributes:
        json: the scores, flat for one method, by name for several.
        csv: the table with every digit.
        markdown: the table.
        latex: the table.

    Raises:
        UserError: a folder, a picture's name, or one file for two of them.
    """

    json: Path | None = None
    csv: Path | None = None
    markdown: Path | None = None
    latex: Path | None = None

    def __post_init__(self):
        files = [file for file in vars(self).values() if file]
        for file in files:
            if file.is_dir():
                raise UserError(f"{file} is a folder: name a file in it")
            if file.suffix.lower() in EXTENSIONS:
                raise UserError(f"{file} is named as a picture, which scores are not: name another file")
        if len({file.resolve() for file in files}) < len(files):
            raise UserError("two kinds of tables are to go into one file: name a file for each")


def score_folders(
    predictions: Sequence[Path],
    masks: Path,
    *,
    invert_predictions: bool = False,
    invert_masks: bool = False,
    normalize: bool = False,
) -> tuple[list[Scored], int]:
    """Scores one or several folders of maps, and prints what is odd about their files.

    Returns:
        The methods, and how many warnings there were.

    Raises:
        UserError: see ``MapFolder`` and ``evaluate_folder``.
    """
    scored, warnings = [], {}
    # All folders are looked at before the first is scored.
    folders = [
        MapFolder(folder, masks, invert_predictions=invert_predictions, invert_masks=invert_masks)
        for folder in predictions
    ]
    for name, folder in zip(names_of(predictions), folders, strict=True):
        scored.append(evaluate_folder(folder, name=name, normalize=normalize))
        for kind, lines in folder.warnings.items():
            warnings.setdefault(kind, {}).update(dict.fromkeys(lines))  # each mask is read once for every folder
    return scored, print_warnings({kind: list(lines) for kind, lines in warnings.items()})


def score_checkpoint(
    checkpoint: str,
    spec: Spec | None,
    *,
    path: str | None = None,
    split: str | None = None,
    maps: Path | None = None,
    quantise: bool = True,
    normalize: bool = False,
) -> tuple[Scored, int]:
    """Runs a network over data and scores it, and prints what is odd; see ``score_folders``.

    Args:
        checkpoint: see ``afiu_jax.weights.load_weights``.
        spec: the data; the run's own test data if None, with ``path`` and ``split`` in place of its own.
        path: folder of the run's test data.
        split: part of the run's test data.
        maps: folder to write the maps to, if not None.
        quantise: score maps of 8 bits, as on disk.
        normalize: stretch every map to 0…1 before scoring.
    """
    if maps:
        own_folder(maps)  # before the network is read
    predictor, warnings = Predictor(checkpoint), 0
    if spec is None:
        spec = test_spec(predictor.config, predictor.name, path, split)
    else:
        spec = with_radius_of(predictor.config, spec)
    # Bokeh is composited with the seed of the run; what was exported has none.
    seed = predictor.config.get("seed", 0)
    source = open_source(spec, predictor.positive, seed=seed)
    warnings += print_warnings({"odd masks": odd_masks(source, spec)})
    save, faint = map_writer(maps, predictor.about) if maps else None, []
    options = {"name": predictor.name, "quantise": quantise, "normalize": normalize}
    scored = evaluate(predictor, source, save, faint=faint, **options)
    lines = [f"{name}: the mask nowhere reaches 128, and is scored as one without a target" for name in faint]
    warnings += print_warnings({"faint masks": lines})
    if maps and (others := earlier(maps, {f"{picture['id']}.png" for picture in scored.pictures})):
        line = (
            f"maps of an earlier call that stay in {maps}, where --predictions takes them for the same method's: "
            f"{len(others)}; remove them, or name another folder with --maps"
        )
        warnings += print_warnings({"earlier maps": [line]})
    protocol = {"network": str(predictor.path), "data": describe_drawn(spec, seed), **scored.protocol}
    return replace(scored, protocol=protocol), warnings


def show(methods: Sequence[Scored], outputs: Outputs, warnings: int, *, strict: bool = False) -> None:
    """Prints the table with its definitions and counts, and writes the files.

    Raises:
        UserError: warnings, if ``strict``; no file is written then.
    """
    console, table = open_console(), comparison_table(methods)
    console.print(formats.to_text(table), end="")
    for what, meaning in methods[0].protocol.items():
        console.print(f"{what}: {meaning}")
    for method in methods:
        console.print(
            f"{method.name}: {method.images} images scored, {method.resized} maps resized, {method.left_out} left out"
        )
    if strict and warnings:
        raise UserError(f"{warnings} warnings, and --strict: nothing was written")
    numbers = {method.name: _flat(method) for method in methods}
    text = json.dumps(numbers if len(methods) > 1 else _flat(methods[0]), indent=2) + "\n"
    renderers = {"csv": formats.to_csv, "markdown": formats.to_markdown, "latex": formats.to_latex}
    for kind, file in vars(outputs).items():
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text if kind == "json" else renderers[kind](table), encoding="utf-8")


def _flat(method: Scored) -> dict[str, float | int]:
    counts = {"images": method.images, "resized": method.resized, "left_out": method.left_out}
    return {**method.scores, **counts}


def test_spec(config: dict, name: str, path: str | None = None, split: str | None = None) -> Spec:
    """The test data of a network's run, with ``path`` and ``split`` in place of its own.

    Args:
        config: of its run, resolved.
        name: the network's, for messages.
        path: folder of the data.
        split: part of the data.

    Raises:
        UserError: weights that are not a run's, and know of no data; a path for data that are generated.
    """
    if "test" not in config["data"]:
        raise UserError(f"{name} has no test data of its own: say which with --data, --path and --split")
    spec = Spec(**config["data"]["test"])
    if path and origin(spec) == "scenes":
        raise UserError(
            f"--path is {path}, and the test data of {name} are generated ({describe(spec)}): say with "
            "--data what is there"
        )
    return replace(spec, path=path or spec.path, split=split or spec.split)


def with_radius_of(config: dict, spec: Spec) -> Spec:
    """Bokeh as strong as the network's run was tested, validated or trained on, the first of them; other data as it is.

    So is bokeh whose radius is not the default, and of a network that saw none.
    """
    data = config["data"]
    parts = [Spec(**data[part]) for part in ("test", "val", "train") if part in data]
    own = next((part for part in parts if part.name == "bokeh"), spec)
    return replace(spec, radius=own.radius) if spec.name == "bokeh" and spec.radius == RADIUS else spec


def names_of(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, with as much of their paths as makes them different.

    Raises:
        UserError: a folder that is named twice.
    """
    paths = [at_home(folder).resolve() for folder in folders]
    if len(set(paths)) < len(paths):
        raise UserError(f"{Counter(paths).most_common(1)[0][0]} is named twice: name each folder once")
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in paths]


def print_warnings(warnings: dict[str, list[str]]) -> int:
    """Prints some lines of every kind on the error stream, and returns how many there are in all."""
    console = open_console(stderr=True)
    for kind, lines in warnings.items():
        for line in lines[:_SHOWN]:
            console.print(f"warning: {line}", style="yellow")
        if len(lines) > _SHOWN:
            console.print(f"warning: {kind}: {len(lines) - _SHOWN} files more", style="yellow")
    return sum(map(len, warnings.values()))
