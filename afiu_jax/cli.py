"""The ``afiu`` command."""

import io
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from afiu_jax.cli_data import data_app
from afiu_jax.console import open_console, quiet_orbax
from afiu_jax.errors import UserError, one_line_errors
from afiu_jax.garbage import collect_seldom, leave_all
from afiu_jax.memory import keep_freed_memory
from input_pipeline.records import DataError


class Commands(TyperGroup):
    """Commands that answer a wrong request in one line, with exit status 2, and Ctrl-C, before Typer does."""

    def invoke(self, ctx: Any) -> Any:  # of Typer's own copy of Click
        """Runs the command that was asked for."""
        with one_line_errors(DataError):
            return super().invoke(ctx)


app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, help="Defocus blur detection with a salient-object prior."
)
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
    photos: Annotated[list[str], typer.Argument(help="Photos, folders of them, or patterns.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the pictures, or one .png file.")] = Path("maps"),
    weights: Annotated[
        str | None,
        typer.Option("--weights", "--checkpoint", help="u2netp-dbd, u2netp-sod, a file of afiu export, or a workdir."),
    ] = None,
    task: Annotated[str | None, typer.Option(help="dbd: what is out of focus; sod: the salient object.")] = None,
    size: Annotated[
        str | None, typer.Option(help="Side that photos are resized to, as in training; or native: their own size.")
    ] = None,
    save: Annotated[str, typer.Option(help="Any of map,overlay,cutout,side-by-side.")] = "map",
) -> None:
    """Maps of photos, as PNG at each photo's own size; white = blurred, or salient with --task sod."""
    from afiu_jax.commands.predict import predict

    if predict(photos, out, weights=weights, task=task, size=size, save=save):
        raise typer.Exit(1)


@app.command()
def evaluate(
    predictions: Annotated[list[Path] | None, typer.Option(help="Folder of maps; several give one table.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of their masks, of equal names.")] = None,
    invert_predictions: Annotated[bool, typer.Option(help="255 in the maps is what 0 is in the masks.")] = False,
    invert_masks: Annotated[bool, typer.Option(help="The target is what is below 128 in the masks.")] = False,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", "--weights", help="A workdir (its best checkpoint), a step or a name.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="folder, scenes, bokeh or a TFDS name; else the run's test.")] = None,
    path: Annotated[str | None, typer.Option(help="The folder, or the TFDS data folder.")] = None,
    split: Annotated[str | None, typer.Option(help="Part of the data: val, test[:100], …")] = None,
    white: Annotated[str | None, typer.Option(help="What 255 marks in the masks: salient, blur or focus.")] = None,
    images_dir: Annotated[str | None, typer.Option(help="The images' folder, for folder data; else images.")] = None,
    masks_dir: Annotated[str | None, typer.Option(help="The masks' folder, for folder data; else masks.")] = None,
    source: Annotated[str | None, typer.Option(help="What bokeh composites from; else folder.")] = None,
    maps: Annotated[Path | None, typer.Option(help="Write the network's maps there, as <stem>.png.")] = None,
    quantise: Annotated[bool, typer.Option(help="Score the network's maps in 8 bits, as they stand on disk.")] = True,
    normalize: Annotated[bool, typer.Option(help="Stretch every map to 0…1 first (min-max).")] = False,
    strict: Annotated[bool, typer.Option(help="Warnings are errors.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the scores there.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table there, with every digit.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table there.")] = None,
    latex: Annotated[Path | None, typer.Option(help="Write the table there.")] = None,
) -> None:
    """Scores of maps on disk (--predictions, --masks) or of a network (--checkpoint), at the masks' own size."""
    from afiu_jax.commands.evaluate import Outputs, score_checkpoint, score_folders, show
    from input_pipeline.sources import Spec

    outputs = Outputs(json_file, csv, markdown, latex)
    if bool(predictions) == bool(checkpoint):
        raise UserError("name what to score: either --predictions DIR --masks DIR, or --checkpoint DIR")
    inverted = {"invert_predictions": invert_predictions, "invert_masks": invert_masks}
    folders, declared = {"images_dir": images_dir, "masks_dir": masks_dir}, {"white": white, "source": source}
    of_network = {"data": data, "path": path, "split": split, "maps": maps, "no_quantise": not quantise}
    photos = _photos(data, source)
    for other, is_there, options in (
        ("--checkpoint", checkpoint, {**of_network, **declared, **folders}),
        ("--predictions (with --checkpoint, say --data and --white)", predictions, {"masks": masks, **inverted}),
        ("--data", data, {**declared, **folders}),
        ("--data bokeh", data == "bokeh", {"source": source}),
        ("a folder", photos == "folder", folders),
        ("data that is not generated", photos != "scenes", {"path": path, "white": white}),
    ):
        _only_with(other, is_there, options)
    if predictions:
        if masks is None:
            raise UserError("--predictions needs --masks DIR, the folder of the masks")
        methods, warnings = score_folders(predictions, masks, normalize=normalize, **inverted)
    else:
        if maps and not quantise:
            raise UserError("maps are written in 8 bits: score them so, or leave out --maps")
        names = images_dir or "images", masks_dir or "masks", source or "folder"
        spec = Spec(data, path, _part(data, source, split), white, *names) if data else None
        options = {"path": path, "split": split, "maps": maps, "quantise": quantise, "normalize": normalize}
        keep_freed_memory()
        method, warnings = score_checkpoint(checkpoint, spec, **options)
        methods = [method]
    show(methods, outputs, warnings, strict=strict)


@app.command()
def report(
    predictions: Annotated[list[Path] | None, typer.Option(help="Folder of maps; may be given several times.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of their masks, of equal names.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the photos, of equal names.")] = None,
    run: Annotated[list[Path] | None, typer.Option(help="Work directory of a run; may be given several times.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the report.")] = Path("report"),
    data: Annotated[str | None, typer.Option(help="What runs are scored on, else their own test data.")] = None,
    path: Annotated[str | None, typer.Option(help="The folder of that data, or the TFDS data folder.")] = None,
    split: Annotated[str | None, typer.Option(help="Part of that data.")] = None,
    white: Annotated[str | None, typer.Option(help="What 255 marks in its masks: salient, blur or focus.")] = None,
    images_dir: Annotated[str | None, typer.Option(help="Its images' folder, for folder data; else images.")] = None,
    masks_dir: Annotated[str | None, typer.Option(help="Its masks' folder, for folder data; else masks.")] = None,
    invert_predictions: Annotated[bool, typer.Option(help="255 in the maps is what 0 is in the masks.")] = False,
    invert_masks: Annotated[bool, typer.Option(help="The target is what is below 128 in the masks.")] = False,
    normalize: Annotated[bool, typer.Option(help="Stretch every map to 0…1 first (min-max).")] = False,
    published: Annotated[str | None, typer.Option(help="Print the paper's numbers on CUHK, DUT, … beside.")] = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "",
) -> None:
    """A self-contained page on maps or runs: scores, curves, pictures, worst and best images, training curves."""
    from afiu_jax.commands.report import write_report
    from input_pipeline.sources import Spec

    inverted = {"invert_predictions": invert_predictions, "invert_masks": invert_masks}
    declared = {"data": data, "path": path, "split": split, "white": white}
    _only_with("--run, without --predictions", not predictions, declared)
    _only_with("--predictions", predictions, {"masks": masks, "images": images, **inverted})
    folders = {"images_dir": images_dir, "masks_dir": masks_dir}
    _only_with("--data", data, {"white": white, **folders})
    _only_with("--data folder or bokeh", data in ("folder", "bokeh"), folders)
    _only_with("data that is not generated", data != "scenes", {"path": path, "white": white})
    names = images_dir or "images", masks_dir or "masks"
    spec = Spec(data, path, _part(data, None, split), white, *names) if data else None
    write_report(
        out, predictions or [], masks, images, run or [], spec=spec, path=path, split=split,
        invert_predictions=invert_predictions, invert_masks=invert_masks, normalize=normalize,
        published=published, title=title,
    )  # fmt: skip


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def study(
    context: typer.Context,
    config: Annotated[str, typer.Option(help="The study: configs/studies/*.py, or one of its variants after a colon.")],
    workdir: Annotated[
        Path | None, typer.Option(help="Folder of the study; runs/<config>[-<variant>] unless told.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Runs to do: u2netp/*, */scratch*; may be repeated.")] = None,
    report_only: Annotated[bool, typer.Option("--report-only", help="Run nothing: report on what there is.")] = False,
) -> None:
    """Networks x starts x seeds: trains what is not done, compares, reports. --config.a.b=value changes the study."""
    from afiu_jax.study.command import run_study
    from afiu_jax.training.flags import default_workdir, read_config

    study, command = read_config([f"--config={config}", *context.args]), shlex.join(["afiu", *sys.argv[1:]])
    folder = workdir or Path(default_workdir(config))
    outcome = run_study(study, folder, only or (), report_only=report_only, command=command)
    if outcome.stopped_by:
        raise typer.Exit(128 + signal.Signals[outcome.stopped_by])
    if outcome.failures:
        raise typer.Exit(1)


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
    preset: Annotated[str, typer.Option(help="The network's preset; a file of afiu export says it itself.")] = "",
    white: Annotated[
        str | None, typer.Option(help="What 255 marks in its maps: salient (unless the file says), blur or focus.")
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Folder of photos for the statistics that a file had folded; 500 of them, evenly spread."),
    ] = None,
) -> None:
    """Makes a checkpoint of published PyTorch weights."""
    from afiu_jax.interop.importing import import_weights

    import_weights(model, source, out, preset=preset, photos=calibrate, positive=white)


@app.command()
def export(
    weights: Annotated[str, typer.Option("--weights", "--checkpoint", help="As of afiu predict.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file; <weights>.<format> unless told.")] = None,
    to: Annotated[str, typer.Option("--format", help="safetensors, onnx or stablehlo.")] = "safetensors",
    half: Annotated[bool, typer.Option(help="Weights as float16, for safetensors.")] = False,
    size: Annotated[int | None, typer.Option(help="Side that photos are resized to, else the training's.")] = None,
    antialias: Annotated[
        bool | None, typer.Option(help="Smooth photos before they are shrunk to it, else as in training.")
    ] = None,
    photos: Annotated[Path | None, typer.Option(help="Photos to check a program on, else generated scenes.")] = None,
) -> None:
    """Writes a network into a file for other programs: its arrays under the published names, or as a program."""
    from afiu_jax.export import export

    path, saved, notes = export(weights, out, to, half=half, size=size, antialias=antialias, photos=photos)
    source = f"{saved.config['model']['name']} of {saved.path}"
    open_console().print(f"wrote {path}: {'; '.join([source, *notes])}")


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for every computer of the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 7860,
    weights: Annotated[
        str | None, typer.Option("--weights", "--checkpoint", help="The network chosen at first, as of afiu predict.")
    ] = None,
    max_megabytes: Annotated[int, typer.Option(min=1, help="Largest file that is accepted.")] = 50,
    max_megapixels: Annotated[int, typer.Option(min=1, max=178, help="Largest photo that is accepted.")] = 50,
) -> None:
    """A local web page: drop a photo, see and download its map, overlay and cut-out."""
    from afiu_jax.serve.server import serve

    serve(host, port, weights, max_megabytes=max_megabytes, max_megapixels=max_megapixels)


def _part(data: str, source: str | None, split: str | None) -> str | None:
    """The part of the data that is scored: a folder need not have any; else what nothing was trained on."""
    return split or (None if _photos(data, source) == "folder" else "test")


def _photos(data: str | None, source: str | None) -> str | None:
    """The data that the photos are of: what bokeh composites from, else the data itself."""
    return (source or "folder") if data == "bokeh" else data


def _only_with(other: str, is_there: object, options: dict[str, object]) -> None:
    """Refuses options that have no effect unless something else is there."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if given and not is_there:
        raise UserError(f"{', '.join(given)} can only go with {other}")


def _at_home(argument: str) -> str:
    """An argument with the home folder for ``~``, which shells leave alone in ``--out=~/maps``."""
    name, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return f"{name}{equals}{Path(value).expanduser()}" if value.startswith("~/") else argument


def main() -> None:
    """Runs the command."""
    collect_seldom()
    quiet_orbax()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        app(list(map(_at_home, sys.argv[1:])))
    finally:
        leave_all()


if __name__ == "__main__":
    main()
