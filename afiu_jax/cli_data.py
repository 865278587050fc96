"""The ``afiu data`` commands."""

from pathlib import Path
from typing import Annotated

import typer

data_app = typer.Typer(no_args_is_help=True, help="Public data sets.")

# As in ``cli``, commands import what they need when they run.


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


@data_app.command("check")
def check_data(
    data: Annotated[str, typer.Option(help="folder, scenes, bokeh or a TFDS name.")],
    path: Annotated[str | None, typer.Option(help="The folder, or the TFDS data folder.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Part of the data; several are compared.")] = None,
    white: Annotated[str | None, typer.Option(help="What 255 marks in the masks: salient, blur or focus.")] = None,
    images_dir: Annotated[str, typer.Option(help="The images' folder, for folder data.")] = "images",
    masks_dir: Annotated[str, typer.Option(help="The masks' folder, for folder data.")] = "masks",
    source: Annotated[str, typer.Option(help="What bokeh composites from.")] = "folder",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything that was found there.")] = None,
) -> None:
    """Reads whole data: what cannot be used, sizes, masks, polarity, photos that are there twice. Status 1: any."""
    from afiu_jax.commands.check import check
    from input_pipeline.sources import Spec

    spec = Spec(data, path, None, white, images_dir, masks_dir, source)
    if check(spec, split or [], json_file):
        raise typer.Exit(1)
