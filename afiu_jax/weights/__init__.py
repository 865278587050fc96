"""Trained networks: those that come with the package, and where any other is read from.

``<name>.safetensors`` beside this file is a network, ``<name>.md`` says how it was made and how good it is.
"""

from pathlib import Path

from afiu_jax.errors import UserError
from afiu_jax.interop.exported import read_exported
from afiu_jax.training.saved import SavedModel
from input_pipeline.paths import at_home

FOLDER = Path(__file__).parent

DEFAULTS = {"dbd": "u2netp-dbd", "sod": "u2netp-sod"}
"""The network of each task that is used unless another is named."""


def shipped() -> list[str]:
    """Names of the networks that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def is_shipped(source: str | Path) -> bool:
    """Whether ``load_weights`` would take this for a name: a run of that name, if there is one, comes first."""
    return str(source) in shipped() and not (Path(source) / "checkpoints").exists()


def load_weights(source: str | Path) -> SavedModel:
    """Reads a trained network.

    Args:
        source: the name of a network that comes with the package; a ``.safetensors`` file of ``afiu export``; a run's
            work directory (its best checkpoint by validation MAE, else its last) or one of its step folders.

    Raises:
        UserError: nothing there, or nothing that can be read.
    """
    if is_shipped(source):
        return read_exported(FOLDER / f"{source}.safetensors")
    path = at_home(source)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise UserError(f"no file {path}: name one, or one of {', '.join(shipped())}")
        return read_exported(path)
    if not path.exists():
        raise UserError(f"no weights {str(source)!r}: name one of {', '.join(shipped())}, or a run's work directory")
    if path.is_file():
        raise UserError(
            f"{path} is a file of other weights: afiu import-weights --model NETWORK --from {path} --out DIR makes a "
            "run of it; name DIR"
        )
    # Orbax takes a while to import, which the networks of the package need not wait for.
    from afiu_jax.training.checkpoint import load_model

    return load_model(path)
