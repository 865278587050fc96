"""``afiu export``: the network of a checkpoint for other programs."""

from collections.abc import Callable
from pathlib import Path

from afiu_jax.errors import UserError
from afiu_jax.interop.exported import write_exported
from afiu_jax.networks import create_model
from afiu_jax.training.saved import SavedModel, fill
from afiu_jax.weights import load_weights


def export(weights: str | Path, out: Path, to: str = "safetensors", *, half: bool = False) -> SavedModel:
    """Writes a network into one file.

    Args:
        weights: see ``load_weights``.
        out: the file; its folder is made if need be.
        to: a key of ``FORMATS``.
        half: weights as float16.

    Returns:
        What was exported.

    Raises:
        UserError: no weights there, unknown format, a file name that does not go with it.
    """
    if to not in FORMATS:
        raise UserError(f"unknown format {to!r}; --format is one of: {', '.join(FORMATS)}")
    if out.suffix != f".{to}":
        raise UserError(f"--out is {out}; name a file that ends in .{to}")
    saved = load_weights(weights)
    model = create_model(saved.config["model"]["name"], **saved.config["model"]["options"])
    fill(model, saved)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".tmp")
    FORMATS[to](model, saved, temporary, half=half)
    temporary.replace(out)
    return saved


FORMATS: dict[str, Callable[..., None]] = {"safetensors": write_exported}
"""What writes a network into a file, by the file's suffix."""
