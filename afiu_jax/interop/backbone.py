"""ImageNet weights for the backbone, ``config.model.backbone_weights``."""

import re
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load_file

from afiu_jax.errors import UserError

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def load_backbone(model: nnx.Module, path: str | Path) -> int:
    """Fills E1…E5 of a network, in place, from a ResNet file in the names of torchvision and timm.

    Args:
        model: a network whose levels are ``blocks.resnet.resnet_levels``.
        path: ``.safetensors``, or ``.npz`` with the state dict's arrays; convolutions are O, I, kh, kw. The
            classifier ``fc`` and ``num_batches_tracked`` are passed over.

    Returns:
        Number of arrays loaded.

    Raises:
        UserError: no such file, not such a file, arrays that lack or have other shapes.
    """
    weights = _read(Path(path).expanduser())
    levels = nnx.state(model, (nnx.Param, nnx.BatchStat))
    filled = 0
    for keys, variable in nnx.to_flat_state(levels):
        if not re.fullmatch(r"E[1-5]", str(keys[0])):
            continue
        name = f"{_published_name('.'.join(map(str, keys[:-1])))}.{_LEAVES[keys[-1]]}"
        if name not in weights:
            raise UserError(f"model.backbone_weights: {path} has no {name}; it must hold a whole ResNet-50")
        value = weights[name].transpose(2, 3, 1, 0) if keys[-1] == "kernel" else weights[name]
        if value.shape != variable.shape:
            raise UserError(
                f"model.backbone_weights: {name} of {path} is {value.shape}, the network's is {variable.shape}; "
                "ImageNet's ResNet-50 fits the full size only (model.preset=)"
            )
        variable[...] = jnp.asarray(value, jnp.float32)
        filled += 1
    if not filled:
        raise UserError("model.backbone_weights: this network has no ResNet backbone")
    return filled


def _published_name(path: str) -> str:
    """The name in torchvision of a sub-module: ``E3.blocks.0.downsample_conv`` is ``layer2.0.downsample.0``."""
    if path.startswith("E1."):
        return {"E1.conv": "conv1", "E1.norm": "bn1"}[path]
    level, _, block, layer = path.split(".")
    layer = {"downsample_conv": "downsample.0", "downsample_bn": "downsample.1"}.get(layer, layer)
    return f"layer{int(level[1]) - 1}.{block}.{layer}"


def _read(path: Path) -> Mapping[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"model.backbone_weights: no file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
    except (SafetensorError, ValueError, OSError) as error:
        raise UserError(f"model.backbone_weights: cannot read {path}: {error}") from error
    raise UserError(f"model.backbone_weights: {path} is neither .safetensors nor .npz; save the state dict as one")
