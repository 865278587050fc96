"""``afiu export``: the network of a checkpoint for other programs."""

import json
from collections.abc import Callable
from pathlib import Path

from flax import nnx
from safetensors.numpy import save_file

from afiu_jax.errors import UserError
from afiu_jax.interop.layout import to_published
from afiu_jax.networks import create_model
from afiu_jax.training.checkpoint import SavedModel, load_model, transfer


def export(checkpoint: str | Path, out: Path, to: str = "safetensors") -> SavedModel:
    """Writes the network of a checkpoint into one file.

    Args:
        checkpoint: a run's work directory (its best checkpoint, else its last) or one step's folder.
        out: the file; its folder is made if need be.
        to: a key of ``FORMATS``.

    Returns:
        What was exported.

    Raises:
        UserError: no checkpoint there, unknown format, a file name that does not go with it.
    """
    if to not in FORMATS:
        raise UserError(f"unknown format {to!r}; --format is one of: {', '.join(FORMATS)}")
    if out.suffix != f".{to}":
        raise UserError(f"--out is {out}; name a file that ends in .{to}")
    saved = load_model(checkpoint)
    name = saved.config["model"]["name"]
    model = create_model(name, **saved.config["model"]["options"])
    report = transfer(saved, model, name)
    if report.absent or report.reshaped:
        raise UserError(f"{saved.path} does not fill its own network: {report.describe()}")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".tmp")
    FORMATS[to](model, saved, temporary)
    temporary.replace(out)
    return saved


def _write_safetensors(model: nnx.Module, saved: SavedModel, path: Path) -> None:
    """The state dict in the published names and PyTorch's layout; how to prepare images is in the file's metadata."""
    config = saved.config
    metadata = {
        "format": "pt",
        "network": config["model"]["name"],
        "options": json.dumps(config["model"]["options"]),
        "normalize": config["data"]["normalize"],
        "image_size": str(config["data"]["image_size"]),
        "positive": config["task"]["positive"],
    }
    save_file(to_published(model, config["model"]["name"]), path, metadata)


FORMATS: dict[str, Callable[[nnx.Module, SavedModel, Path], None]] = {"safetensors": _write_safetensors}
"""What writes a network into a file, by the file's suffix."""
