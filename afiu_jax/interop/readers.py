"""State dicts from files: ``.safetensors``, ``.npz``, and PyTorch's ``.pth`` and ``.pt``, all as NumPy arrays.

Nothing here runs code that a file brings along: PyTorch's files, which are pickles, are read with ``weights_only``.
"""

import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from afiu_jax.errors import UserError
from input_pipeline.paths import at_home

StateDict = dict[str, np.ndarray]

# What training programs wrap a state dict in; MINet's has net_state, beside the optimiser's.
_WRAPPERS = ("net_state", "state_dict", "model_state_dict", "model", "net")


def read_state_dict(path: str | Path) -> StateDict:
    """The arrays of a file by key, in the file's layout.

    Args:
        path: the file; its suffix says what it is.

    Raises:
        UserError: no such file, damaged, of another kind, a pickle of more than arrays, or PyTorch is not installed.
    """
    path = at_home(path)
    if path.suffix not in READERS:
        kinds = ", ".join([*READERS, ".onnx"])
        raise UserError(f"{path} is not a kind of file that weights are read from: {kinds}")
    if not path.is_file():
        raise UserError(f"no file {path}")
    return as_state_dict(READERS[path.suffix](path), str(path))


def as_state_dict(found: object, source: str) -> StateDict:
    """NumPy arrays by published key, without what programs wrap around them: a dictionary, a ``module.`` prefix.

    Args:
        found: a mapping of keys to arrays or tensors, or such a mapping inside another.
        source: where it comes from, for messages.

    Raises:
        UserError: it is something else.
    """
    while isinstance(found, Mapping) and (wrapper := next((key for key in _WRAPPERS if _holds_more(found, key)), None)):
        found = found[wrapper]
    if not isinstance(found, Mapping) or not found:
        raise UserError(f"{source} holds no state dict: a mapping of names to arrays")
    if odd := [str(key) for key, value in found.items() if not hasattr(value, "shape")]:
        raise UserError(f"{source} holds no state dict: {', '.join(odd[:3])} are not arrays")
    arrays = {str(key): _as_numpy(value) for key, value in found.items()}
    if odd := [key for key, array in arrays.items() if not np.can_cast(array.dtype, np.float64, "same_kind")]:
        raise UserError(f"{source} has something else than real numbers in {', '.join(odd[:3])}")
    if all(key.startswith("module.") for key in arrays):  # of nn.DataParallel
        arrays = {key.removeprefix("module."): value for key, value in arrays.items()}
    return arrays


def _holds_more(found: Mapping, key: str) -> bool:
    return isinstance(found.get(key), Mapping)


def _as_numpy(value) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor, which may be of a type that NumPy lacks
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    return np.asarray(value)


def _read_safetensors(path: Path) -> StateDict:
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise _damaged(path, error) from error


def _read_npz(path: Path) -> StateDict:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # a damaged archive fails in any way: BadZipFile, EOFError, NotImplementedError
        raise _damaged(path, error) from error


def _read_torch(path: Path) -> object:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"reading {path} takes PyTorch: uv sync --extra torch, or pip install torch; a .safetensors file takes "
            "nothing more"
        ) from error
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickles that it is about to refuse
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]{1,80})(?!\S)", str(error))  # else what a damaged file holds in its place
        raise UserError(
            f"{path} is refused: it holds {named[1] if named else 'more than arrays'}, and loading such a pickle can "
            "run any code; ask its author for torch.save(model.state_dict(), …) or a .safetensors file"
        ) from error
    except Exception as error:  # a damaged pickle fails in any way: EOFError, RuntimeError, KeyError
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    reason = shorten(str(error).partition(". ")[0], 200) or type(error).__name__
    return UserError(f"cannot read {path}, which is damaged or not such a file: {reason}")


READERS: dict[str, Callable[[Path], object]] = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".tar": _read_torch,  # .pth.tar
}
"""What reads a file, by its suffix."""
