"""The ``afiu`` command."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from afiu_jax.console import open_console, quiet_orbax
from afiu_jax.errors import UserError, one_line_errors
from input_pipeline.records import DataError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Defocus blur detection with a salient-object prior."
)
data_app = typer.Typer(no_args_is_help=True, help="Public data sets.")
app.add_typer(data_app, name="data")

# Commands import what they need when they run: JAX takes seconds, and --help should not.


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the demo's runs and pictures.")] = Path("runs/demo"),
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps of each stage.")] = None,
) -> None:
    """SOD on generated scenes, then DBD from its weights and from scratch: about four minutes on two cores."""
    from afiu_jax.demo import run_demo

    if stopped_by := run_demo(out, steps):
        raise typer.Exit(128 + signal.Signals[stopped_by])


@app.command()
def predict(
    photos: Annotated[list[str], typer.Argument(help="Photos, or folders of them.")],
    checkpoint: Annotated[str, typer.Option(help="A run's workdir (its best checkpoint, else last) or a step.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the maps.")] = Path("maps"),
) -> None:
    """A map of every photo, 8-bit PNG at the photo's own size, as OUT/<stem>.png."""
    from rich.progress import track

    from afiu_jax.inference import Predictor
    from input_pipeline.photos import Photos

    source = Photos(photos)
    save = _map_writer(out, [path for _, path in source.files])
    predictor = Predictor(checkpoint)
    records = (source[i] for i in track(range(len(source)), description="predicting", transient=True))
    for record, found in predictor.maps(records):
        save(record, found)
    open_console().print(f"{len(source)} maps in {out}; white = {predictor.positive}; network: {predictor.path}")


@app.command()
def evaluate(
    checkpoint: Annotated[str, typer.Option(help="A run's workdir (its best checkpoint, else last) or a step.")],
    data: Annotated[str | None, typer.Option(help="folder, scenes, bokeh or a TFDS name; else the run's test.")] = None,
    path: Annotated[str | None, typer.Option(help="The folder, or the TFDS data folder.")] = None,
    split: Annotated[str | None, typer.Option(help="Part of the data: val, test[:100], …")] = None,
    white: Annotated[str | None, typer.Option(help="What 255 marks in the masks: salient, blur or focus.")] = None,
    images_dir: Annotated[str, typer.Option(help="The images' folder, for folder data.")] = "images",
    masks_dir: Annotated[str, typer.Option(help="The masks' folder, for folder data.")] = "masks",
    source: Annotated[str, typer.Option(help="What bokeh composites from.")] = "folder",
    maps: Annotated[Path | None, typer.Option(help="Write every map there, as <stem>.png at the photo's size.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the scores there.")] = None,
) -> None:
    """MAE and max F of a checkpoint on a data set, at the masks' own size."""
    from afiu_jax.evaluation import evaluate as score
    from afiu_jax.inference import Predictor
    from input_pipeline.sources import Spec, describe, looks_inverted, open_source

    predictor, console = Predictor(checkpoint), open_console()
    if data is None:
        spec = Spec(**predictor.config["data"]["test"])
        spec = replace(spec, path=path or spec.path, split=split or spec.split)
    else:
        # A folder need not have parts; everything else is scored on what it was not trained on.
        split = split or (None if data in ("folder", "bokeh") else "test")
        spec = Spec(data, path, split, white, images_dir, masks_dir, source)
    records = open_source(spec, predictor.positive, seed=predictor.config["seed"])
    if looks_inverted(records):
        console.print("warning: the masks look inverted: what is called blurred is sharper; check --white")
    scores = score(predictor, records, _map_writer(maps, []) if maps else None)
    console.print(f"{predictor.path} on {describe(spec)}: {len(records)} images, 1 = {predictor.positive}")
    console.print("8-bit maps at the masks' size; max F: β² = 0.3, precision and recall averaged over images")
    console.print(f"MAE {scores['mae']:.4f}   max F {scores['max_f']:.4f}")
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps({**scores, "images": len(records)}, indent=2) + "\n", encoding="utf-8")


def _map_writer(out: Path, inputs: list[Path]):
    """A function ``(record, map)`` that writes ``out/<stem>.png``, but never over one of the inputs."""
    from PIL import Image

    out.mkdir(parents=True, exist_ok=True)
    for file in inputs:
        if (out / f"{file.stem}.png").resolve() == file.resolve():
            raise UserError(f"the map of {file} would replace it: name another folder with -o")

    def save(record, found) -> None:
        Image.fromarray(found).save(out / f"{record['id']}.png")

    return save


@app.command()
def models() -> None:
    """The networks: parameters, GFLOPs, legal image sizes, papers, and which weights can be imported."""
    from afiu_jax.networks.catalogue import networks_table

    open_console().print(networks_table())


@app.command("import-weights")
def import_weights(
    model: Annotated[str, typer.Option(help="The network, see afiu models.")],
    source: Annotated[Path, typer.Option("--from", help="File: .pth, .pt, .safetensors, .npz or .onnx.")],
    out: Annotated[Path, typer.Option(help="Work directory to make, for --checkpoint and --init_from.")],
    preset: Annotated[str, typer.Option(help="The network's preset, for weights that were exported here.")] = "",
    calibrate: Annotated[Path | None, typer.Option(help="Photos for the statistics that a file had folded.")] = None,
) -> None:
    """Makes a checkpoint of published PyTorch weights."""
    from afiu_jax.interop.importing import import_weights

    import_weights(model, source, out, preset=preset, photos=calibrate)


@app.command()
def export(
    checkpoint: Annotated[str, typer.Option(help="A run's workdir (its best checkpoint, else last) or a step.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file.")],
    to: Annotated[str, typer.Option("--format", help="safetensors: the state dict in the published names.")] = (
        "safetensors"
    ),
) -> None:
    """Writes a network into a file for other programs."""
    from afiu_jax.export import export

    saved = export(checkpoint, out, to)
    open_console().print(f"wrote {out}: {saved.config['model']['name']} of {saved.path}")


@data_app.command("list")
def list_data() -> None:
    """The data sets that can be prepared."""
    from input_pipeline.builders import BUILDERS, builder_class

    for name in BUILDERS:
        print(f"{name:14s}{(builder_class(name).__doc__ or '').splitlines()[0]}")


@data_app.command("describe")
def describe_data(name: str) -> None:
    """What a data set holds, in which layout, and where to get it."""
    from input_pipeline.prepare import describe

    print(describe(name))


@data_app.command("prepare")
def prepare_data(
    name: str,
    manual_dir: Annotated[Path | None, typer.Option(help="Folder with the archives or the unpacked files.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="TFDS data folder; ~/tensorflow_datasets unless told.")] = None,
) -> None:
    """Downloads a data set, or reads its files, and builds it for training."""
    from input_pipeline.prepare import prepare

    print(prepare(name, manual_dir, data_dir))


def main() -> None:
    """Runs the command; a wrong request is answered in one line, with exit status 2."""
    quiet_orbax()
    with one_line_errors(DataError):
        app()


if __name__ == "__main__":
    main()
