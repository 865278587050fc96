"""A network as a StableHLO program of ``jax.export``: images ``[b, 32 h, 32 w, 3]`` to maps ``[b, 32 h, 32 w, 1]``.

The file is a zip archive of ``program.bin``, what ``jax.export`` serialised, and ``metadata.json``, with the keys of
``afiu_jax.interop.exported`` and, in ``preprocessing``, how a photo becomes an image:

    exported, metadata = read_stablehlo("u2netp-dbd.stablehlo")
    maps = exported.call(images)

It runs wherever JAX does, without this package, on CPUs and on NVIDIA's GPUs.
"""

import json
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import Float32

from afiu_jax.errors import UserError
from afiu_jax.interop.exported import metadata_of, preprocessing_text

if TYPE_CHECKING:
    from jax.export import Exported

    from afiu_jax.export import Exportable

PLATFORMS = ("cpu", "cuda")


def write(exportable: "Exportable", path: Path) -> str:
    """Writes the file.

    Returns:
        Which sizes the program takes: every multiple of 32 from 64 on, or the one of ``exportable`` if that is none of
        them, or for a network that depends on its size in a way that no formula tells (SRM, whose pooling windows are
        parts of the image).
    """
    import jax.export

    side = exportable.size
    try:
        if side % 32 or side < 64:
            raise ValueError("programs of every size take multiples of 32, from 64 on")
        exported, sizes = _trace(exportable, "b, 32*h, 32*w", ["h >= 2", "w >= 2"]), "multiples of 32, from 64 on"
    except Exception as error:  # whatever tracing with unknown sizes raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        sizes = f"{side}x{side} only ({reason})"
        exported = _trace(exportable, f"b, {side}, {side}", [])
    metadata = metadata_of(exportable.saved.config)
    metadata |= {
        "preprocessing": preprocessing_text(metadata),
        "afiu_jax": version("afiu-jax"),
        "jax": jax.__version__,
        "sizes": sizes,
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", json.dumps(metadata, indent=2) + "\n")
        archive.writestr("program.bin", bytes(exported.serialize()))
    return f"batches of any length, sizes: {sizes}"


def _trace(exportable: "Exportable", shape: str, constraints: list[str]) -> "Exported":
    import jax.export

    images = jax.ShapeDtypeStruct((*jax.export.symbolic_shape(shape, constraints=constraints), 3), np.float32)
    with jax.default_matmul_precision("highest"):  # the same maps on a GPU, whose products have fewer bits unless told
        return jax.export.export(jax.jit(exportable.maps), platforms=PLATFORMS)(images)


def read_stablehlo(path: str | Path) -> "tuple[Exported, dict[str, str]]":
    """The program, whose ``call`` takes normalised images, and the metadata.

    Raises:
        UserError: a file that is not of this format.
    """
    import jax.export

    try:
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read("metadata.json"))
            return jax.export.deserialize(bytearray(archive.read("program.bin"))), metadata
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read {path}: {error}; afiu export --format stablehlo writes such files") from error


def open_program(path: Path) -> Callable[[Float32[np.ndarray, "b h w 3"]], Float32[np.ndarray, "b h w 1"]]:
    """The file as a function of images as our networks take them."""
    exported, _ = read_stablehlo(path)
    call = jax.jit(exported.call)
    return lambda images: np.asarray(call(images))
