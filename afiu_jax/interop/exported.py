"""Networks in ``.safetensors`` files of our own: the published state dict, and in its metadata how to use it.

=============  ======================================================================================
``network``    key in ``NETWORKS``
``options``    the network's options, JSON
``task``       sod or dbd
``positive``   what 1 means: salient, blur or focus
``normalize``  see ``input_pipeline.transforms.normalize``
``antialias``  whether photos were smoothed before shrinking, true or false
``image_size`` side of the square that photos are resized to, in pixels
=============  ======================================================================================
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from afiu_jax.errors import UserError
from afiu_jax.interop.layout import fitting, to_published
from afiu_jax.networks import abstract_model
from afiu_jax.training.saved import SavedModel
from input_pipeline.records import Meaning
from input_pipeline.transforms import Normalization

_KEYS = {"network", "options", "task", "positive", "normalize", "antialias", "image_size"}
_KNOWN = {"task": ("sod", "dbd"), "positive": get_args(Meaning), "normalize": get_args(Normalization)}
_STATISTICS = ("running_mean", "running_var")


def metadata_of(config: dict) -> dict[str, str]:
    """The metadata that say how a network is used, from the resolved configuration of its run."""
    task, model, data = (config[part] for part in ("task", "model", "data"))
    return {
        "network": model["name"],
        "options": json.dumps(model["options"]),
        "task": task["name"],
        "positive": task["positive"],
        "normalize": data["normalize"],
        "antialias": json.dumps(data["antialias"]),
        "image_size": str(data["image_size"]),
    }


_SCALES = {
    "imagenet": "divided by 255, less the mean (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225)",
    "max-imagenet": "divided by the photo's largest value, less the mean (0.485, 0.456, 0.406), "
    "divided by (0.229, 0.224, 0.225)",
    "bgr255": "as blue, green, red in 0-255",
}


def preprocessing_text(metadata: dict[str, str]) -> str:
    """How a photo becomes an image, in words, for people who read a file's metadata."""
    smoothing = "with" if json.loads(metadata["antialias"]) else "without"
    return (
        f"RGB, resized bilinearly {smoothing} antialiasing to {metadata['image_size']}x{metadata['image_size']}, "
        f"{_SCALES[metadata['normalize']]}; the map is in 0-1, 1 = {metadata['positive']}"
    )


def write_exported(model: nnx.Module, saved: SavedModel, path: Path, *, half: bool = False) -> None:
    """Writes a network.

    Args:
        model: the network.
        saved: where it comes from; its configuration goes into the metadata.
        path: the file.
        half: float16, except for statistics, whose range may exceed it.

    Raises:
        UserError: a weight is too large for float16.
    """
    arrays = to_published(model, saved.config["model"]["name"])
    if half:
        chosen = [key for key, a in arrays.items() if a.dtype == np.float32 and not key.endswith(_STATISTICS)]
        if large := [key for key in chosen if np.abs(arrays[key]).max(initial=0) > np.finfo(np.float16).max]:
            raise UserError(f"{large[0]} is too large for float16: leave out --half")
        arrays |= {key: arrays[key].astype(np.float16) for key in chosen}
    path.write_bytes(save(arrays, {"format": "pt", **metadata_of(saved.config)}))


def read_use(path: Path) -> dict | None:
    """How a file's network is used: ``task``, ``model`` and ``data`` of its configuration; None if it does not say.

    Raises:
        UserError: a file that cannot be read, or says what nothing here knows.
    """
    with _opened(path) as file:
        return _use(file.metadata() or {}, path)


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, "numpy") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _use(found: dict[str, str], path: Path) -> dict | None:
    if not found.keys() >= _KEYS:
        return None
    for key, known in _KNOWN.items():
        if found[key] not in known:
            raise UserError(
                f"the metadata of {path} say that {key} is {found[key]!r}; it is one of: {', '.join(known)}"
            )
    try:
        return {
            "task": {"name": found["task"], "positive": found["positive"]},
            "model": {"name": found["network"], "options": json.loads(found["options"])},
            "data": {
                "image_size": int(found["image_size"]),
                "normalize": found["normalize"],
                "antialias": bool(json.loads(found["antialias"])),
            },
        }
    except ValueError as error:
        raise UserError(f"the metadata of {path} cannot be read: {error}") from error


def read_exported(path: Path) -> SavedModel:
    """Reads a network that ``write_exported`` wrote.

    Raises:
        UserError: a file that cannot be read, was not written so, or says what nothing here knows.
    """
    with _opened(path) as file:
        found = file.metadata() or {}
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    if (config := _use(found, path)) is None:
        raise UserError(
            f"{path} does not say how its network is used: afiu export writes files that do; "
            "afiu import-weights takes others"
        )
    name, options = config["model"]["name"], config["model"]["options"]
    try:
        abstract = abstract_model(name, **options)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"the options in {path} do not make a network {name}: {error}") from error
    values = fitting(abstract, name, arrays, str(path))
    statistics = {".".join(map(str, p)) for p, _ in nnx.to_flat_state(nnx.state(abstract, nnx.BatchStat))}
    return SavedModel(
        path=path,
        step=0,
        config=config,
        scores=None,
        params={key: value for key, value in values.items() if key not in statistics},
        batch_stats={key: values[key] for key in statistics},
    )
