"""``afiu export``: a trained network for other programs, in a file that says how it is used."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32

from afiu_jax.errors import UserError
from afiu_jax.inference import checked_size
from afiu_jax.interop.exported import write_exported
from afiu_jax.layers import resize
from afiu_jax.networks import create_model
from afiu_jax.training.saved import SavedModel, fill
from afiu_jax.weights import load_weights
from input_pipeline.loader import Preparation
from input_pipeline.photos import Photos
from input_pipeline.records import Source
from input_pipeline.scenes import Scenes

TOLERANCE = 1e-4
"""Largest difference from JAX, of maps in 0…1, with which a program is kept."""

PROGRAMS = {"onnx": "afiu_jax.interop.onnx_export", "stablehlo": "afiu_jax.interop.stablehlo"}
"""Formats that hold the network as a program, and the module with ``write`` and ``open_program`` for each."""

FORMATS = ("safetensors", *PROGRAMS)


class Exported(NamedTuple):
    """What was written.

    Attributes:
        path: the file.
        saved: the network that it holds.
        notes: for programs: the sizes that it takes, and the largest difference of its maps from JAX's.
    """

    path: Path
    saved: SavedModel
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Exportable:
    """A network as a function from normalised images to maps.

    Attributes:
        saved: what it was read from; ``task.positive`` says what 1 means in the maps, blur for any DBD network.
        model: the filled network, set for use.
        inverted: whether the network itself was trained with the opposite meaning.
        size: side of its square images, in pixels, where a format needs one.
    """

    saved: SavedModel
    model: nnx.Module
    inverted: bool
    size: int

    @property
    def network(self) -> str:
        """Key in ``NETWORKS``."""
        return self.saved.config["model"]["name"]

    def maps(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b h w 1"]:
        """Maps in 0…1 of normalised images."""
        # A copy, so that what a network writes when it is called is of the trace in which it is called.
        model = nnx.merge(*nnx.split(self.model), copy=True)
        logits = resize(model(images).logits.astype(jnp.float32), images.shape[1:3])
        return jax.nn.sigmoid(-logits if self.inverted else logits)


def export(
    weights: str | Path,
    out: Path | None = None,
    to: str = "safetensors",
    *,
    half: bool = False,
    size: int | None = None,
    antialias: bool | None = None,
    photos: Path | None = None,
) -> Exported:
    """Writes a network into one file, which computes in float32 whatever it was trained in.

    A program is run once more from its file and compared with JAX before the file gets its name.

    Args:
        weights: see ``load_weights``.
        out: the file, which may not be there yet and whose folder is made if need be; ``<weights>.<format>`` if None.
        to: one of ``FORMATS``.
        half: weights as float16, for safetensors.
        size: side of the square that photos are resized to, which the file says and a program of fixed size takes;
            that of the training if None.
        antialias: whether photos are smoothed before they are shrunk to it; as in training if None.
        photos: a folder of photos to compare on; generated scenes if None.

    Raises:
        UserError: no weights there, unknown format, a file that is there or whose name does not go with it, a network
            or a size that cannot be exported, missing packages, or maps that differ by more than ``TOLERANCE``.
        DataError: no photos there.
    """
    if to not in FORMATS:
        raise UserError(f"unknown format {to!r}; --format is one of: {', '.join(FORMATS)}")
    if half and to != "safetensors":
        raise UserError("--half is for --format safetensors: programs compute with float32")
    if size is not None:
        size = checked_size(size)
    saved = _in_float32(load_weights(weights))
    out = out or Path(f"{_name(saved)}.{to}")
    if out.exists():
        raise UserError(f"{out} is there already: remove it, or name another file with -o")
    if out.suffix != f".{to}":
        raise UserError(f"--out is {out}; name a file that ends in .{to}")
    module = import_module(PROGRAMS[to]) if to in PROGRAMS else None
    pictures = Photos([photos]) if photos else Scenes("salient", split="test")
    model = create_model(saved.config["model"]["name"], **saved.config["model"]["options"])
    fill(model, saved)
    saved = _prepared(saved, model, size, antialias)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".part")
    notes: tuple[str, ...] = ()
    try:
        if module is None:
            write_exported(model, saved, temporary, half=half)
        else:
            exportable = _exportable(saved, model)
            sizes = module.write(exportable, temporary)
            difference = largest_difference(exportable, module.open_program(temporary), pictures)
            if not difference <= TOLERANCE:
                raise UserError(f"nothing was written: the program's maps differ from JAX's by {difference:.1e}")
            notes = sizes, f"maps differ from JAX's by at most {difference:.1e}"
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return Exported(out, saved, notes)


def largest_difference(
    exportable: Exportable,
    program: Callable[[Float32[np.ndarray, "b h w 3"]], Float32[np.ndarray, "b h w 1"]],
    pictures: Source,
) -> float:
    """Of a program's maps from JAX's, in batches of one and of three pictures.

    Args:
        exportable: the network.
        program: what was read back.
        pictures: a source of records.
    """
    data = {**exportable.saved.config["data"], "image_size": exportable.size}
    preparation = Preparation.of(data)
    count = min(4, len(pictures))
    images = np.stack([preparation.finish(preparation.shrink(pictures[i]))["image"] for i in range(count)])
    with jax.default_matmul_precision("highest"):  # a GPU's products have fewer bits than other programs' unless told
        expected = np.asarray(jax.jit(exportable.maps)(images))
    found = np.concatenate([program(batch) for batch in (images[:1], images[1:]) if len(batch)])
    return float(np.abs(found - expected).max())


def _in_float32(saved: SavedModel) -> SavedModel:
    """The same network, whose weights are float32 anyhow, without the compute type of its training."""
    model = saved.config["model"]
    if "dtype" not in model["options"]:
        return saved
    options = {**model["options"], "dtype": "float32"}
    return replace(saved, config={**saved.config, "model": {**model, "options": options}})


def _prepared(saved: SavedModel, model: nnx.Module, size: int | None, antialias: bool | None) -> SavedModel:
    """With another preparation of its photos."""
    data = saved.config["data"]
    side, smooth = size or data["image_size"], data["antialias"] if antialias is None else antialias
    try:
        model.sizes.require((side, side), saved.config["model"]["name"])
    except ValueError as error:
        raise UserError(str(error)) from None
    return replace(saved, config={**saved.config, "data": {**data, "image_size": side, "antialias": smooth}})


def _exportable(saved: SavedModel, model: nnx.Module) -> Exportable:
    task = saved.config["task"]
    model.eval()
    inverted = task["positive"] == "focus"
    task = {**task, "positive": "blur" if inverted else task["positive"]}
    config = {**saved.config, "task": task}
    return Exportable(replace(saved, config=config), model, inverted, config["data"]["image_size"])


def _name(saved: SavedModel) -> str:
    path = saved.path
    return path.parents[1].name if path.parent.name == "checkpoints" else path.stem
