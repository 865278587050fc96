"""ImageNet weights for the backbone of a network, ``config.model.backbone_weights``."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flax import nnx

from afiu_jax.errors import UserError
from afiu_jax.interop.layout import Entry, entries, is_counter
from afiu_jax.interop.names import BACKBONES, names_of, network_name
from afiu_jax.interop.readers import read_state_dict


def load_backbone(model: nnx.Module, path: str | Path) -> int:
    """Fills the backbone of a network, in place, from a file in the names of torchvision or timm.

    Args:
        model: a network whose backbone is ResNet or VGG as torchvision has them.
        path: see ``read_state_dict``. The classifier is passed over, and so are counters of batches.

    Returns:
        Number of arrays filled. If anything is wrong, the network is left as it was.

    Raises:
        UserError: see ``read_backbone``.
    """
    return fill_backbone(model, read_backbone(model, path))


def read_backbone(model: nnx.Module, path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a file that go into the backbone of a network, which may be abstract; all of them fit.

    Args:
        model: see ``load_backbone``, which this is the first half of.
        path: see there.

    Returns:
        Arrays by the file's keys, in PyTorch's layout: kernels are ``[out, in, h, w]``.

    Raises:
        UserError: a network without such a backbone, an unreadable file, one of another backbone, or numbers in it
            that are not finite.
    """
    name = network_name(model)
    if not hasattr(names_of(name), "backbone_name"):
        reason = f"it is built on {BACKBONES[name]}" if name in BACKBONES else "it was published without one"
        raise _error(f"no file of torchvision or timm is a backbone of {name}: {reason}")
    try:
        weights = read_state_dict(path)
    except UserError as error:
        raise _error(str(error)) from error
    places = _places(model)
    whole = f"it must hold ImageNet's {BACKBONES[name]}, whole"
    for entry, key in places:
        if key not in weights:
            raise _error(f"{path} has no {key}; {whole}")
        if weights[key].shape != entry.shape:
            raise _error(
                f"{key} of {path} is {weights[key].shape}, the network's is {entry.shape}; {whole}, "
                "and the network its full size (model.preset=)"
            )
        if not np.isfinite(weights[key]).all():
            raise _error(f"{key} of {path} has numbers that are not finite")
    used = {key for _, key in places}
    # A deeper network of the family has everything that ours has, and more.
    parts = {key.partition(".")[0] for key in used}
    for key in weights:
        if key not in used and key.partition(".")[0] in parts and not is_counter(key):
            raise _error(f"{path} has {key}, for which {name} has no place; {whole} and nothing deeper")
    return {key: weights[key] for key in used}


def fill_backbone(model: nnx.Module, weights: Mapping[str, np.ndarray]) -> int:
    """Fills the backbone of a network, in place, from what ``read_backbone`` gave for it; number of arrays filled."""
    places = _places(model)
    for entry, key in places:
        entry.write(weights[key])
    return len(places)


def _places(model: nnx.Module) -> list[tuple[Entry, str]]:
    """The backbone's arrays and their keys in such a file."""
    name = network_name(model)
    backbone_name = names_of(name).backbone_name
    return [(entry, key) for entry in entries(model, name) if (key := backbone_name(entry.key))]


def _error(message: str) -> UserError:
    return UserError(f"model.backbone_weights: {message}")
