"""A network as an ONNX file: input ``image`` float32 ``[batch, 3, n, n]``, output ``map`` ``[batch, 1, n, n]`` in 0…1.

The batch is free, the size is fixed. The file's metadata has the keys of ``afiu_jax.interop.exported`` and, in
``preprocessing``, how a photo becomes an image.
"""

import logging
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from afiu_jax.errors import UserError
from afiu_jax.interop.exported import metadata_of, preprocessing_text
from afiu_jax.interop.onnx_graph import PRODUCER

if TYPE_CHECKING:
    from afiu_jax.export import Exportable

MISSING = "needs packages that are not installed ({}): uv sync --extra export; docs/weights.md has pip's commands"

OPSET = 20


def write(exportable: "Exportable", path: Path) -> str:
    """Writes the file.

    Returns:
        Which sizes the program takes.

    Raises:
        UserError: jax2onnx or onnx is not installed, or the network has an operation that jax2onnx cannot translate.
    """
    try:
        import jax2onnx
        import onnx
    except ImportError as error:
        raise UserError(f"--format onnx {MISSING.format(error.name)}") from None

    def maps(image):
        found = exportable.maps(jnp.transpose(image, (0, 2, 3, 1)))
        return jnp.transpose(found, (0, 3, 1, 2))

    side = exportable.size
    logging.getLogger("onnx_ir.serde").setLevel(logging.ERROR)  # it warns of hundreds of types that no reader needs
    try:
        model = jax2onnx.to_onnx(
            maps,
            [("batch", 3, side, side)],
            model_name=exportable.network,
            opset=OPSET,
            input_names=["image"],
            output_names=["map"],
        )
    except Exception as error:  # whatever its translations raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{exportable.network} cannot be exported to ONNX: {reason}") from error
    model.producer_name, model.producer_version = PRODUCER, version("afiu-jax")
    metadata = metadata_of(exportable.saved.config)
    metadata |= {"preprocessing": preprocessing_text(metadata), "afiu_jax": version("afiu-jax")}
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return f"batches of any length, size: {side}x{side}"


def open_program(path: Path) -> Callable[[Float32[np.ndarray, "b h w 3"]], Float32[np.ndarray, "b h w 1"]]:
    """The file as a function of images as our networks take them, run by onnxruntime on the CPU.

    Raises:
        UserError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"--format onnx {MISSING.format(error.name)}") from None
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def program(images: Float32[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b h w 1"]:
        (found,) = session.run(["map"], {"image": np.ascontiguousarray(images.transpose(0, 3, 1, 2))})
        return found.transpose(0, 2, 3, 1)

    return program
