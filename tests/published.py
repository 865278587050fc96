"""Weights by the deterministic rule under which the original networks' outputs were recorded, and their names.

The rule fills a tensor from its published PyTorch name and shape alone. ``load_*`` puts those tensors into our blocks.
"""

import re
import zlib

import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.random import PCG64, Generator

from afiu_jax.blocks.sim import SIM

# First match wins. The gains keep every output of the recorded networks within a few units.
_GAIN = [
    (r"^stage\dd?\.", 1.4),
    (r"^(trans|sim\d+|upconv\d+)\.", 0.8),
    (r"", 2.0),
]
_DAMP = [(r"\.bn3\.weight$", 0.3), (r"", 1.0)]
_LEAF = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var", "bias": "bias"}


def fill(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The float32 tensor of a published name, in PyTorch's layout (convolutions O, I, kh, kw)."""
    random = Generator(PCG64(zlib.crc32(key.encode())))
    pick = lambda table: next(value for pattern, value in table if re.search(pattern, key))  # noqa: E731
    if key.endswith("running_mean"):
        a = 0.1 * random.standard_normal(shape)
    elif key.endswith("running_var"):
        a = 0.5 + random.random(shape)
    elif len(shape) >= 2:
        a = random.standard_normal(shape) * np.sqrt(pick(_GAIN) / np.prod(shape[1:]))
    elif key.endswith("bias"):
        a = 0.1 * random.standard_normal(shape)
    else:
        a = pick(_DAMP) * (1 + 0.1 * random.standard_normal(shape))
    return a.astype(np.float32)


def load(module: nnx.Module, published_name) -> None:
    """Fills a block in place; ``published_name`` maps a path of sub-modules, dotted, to the published one."""
    for path, variable in nnx.to_flat_state(nnx.state(module, (nnx.Param, nnx.BatchStat))):
        key = f"{published_name('.'.join(map(str, path[:-1])))}.{_LEAF[path[-1]]}"
        shape = variable.shape
        if path[-1] == "kernel":
            height, width, in_features, out_features = shape
            value = fill(key, (out_features, in_features, height, width)).transpose(2, 3, 1, 0)
        else:
            value = fill(key, shape)
        variable[...] = jnp.asarray(value)
    module.eval()


def load_resnet(levels: tuple[nnx.Module, ...]) -> None:
    """Weights of the recorded ResNet-50 for the five levels."""
    prefixes = ("div_2", "div_4.1", "div_8", "div_16", "div_32")
    stem = {"conv": "0", "norm": "1"}

    def name(path: str, prefix: str) -> str:
        if prefix == "div_2":
            return f"{prefix}.{stem[path]}"
        path = path.removeprefix("blocks.").replace("downsample_conv", "downsample.0")
        return f"{prefix}.{path.replace('downsample_bn', 'downsample.1')}"

    for level, prefix in zip(levels, prefixes, strict=True):
        load(level, lambda path, prefix=prefix: name(path, prefix))


def load_interaction(module: nnx.Module, prefix: str) -> None:
    """Weights of a recorded AIM or SIM; its stages are numbered 0 to 3 there."""
    stages = {"embed": "0", "exchange": "1", "merge": "2"}

    def name(path: str) -> str:
        first, *rest = path.split(".")
        if first == "identity":
            return f"{prefix}.identity"
        if first == "project":
            return f"{prefix}.{module.main}2{module.main}_3"
        if first == "project_norm":
            return f"{prefix}.bn{module.main}_3"
        kind, route = sorted(rest, key=lambda part: part not in ("conv", "norm"))
        if kind == "norm":
            return f"{prefix}.bn{route}_{stages[first]}"
        if first == "embed":  # a SIM makes both of its branches from one map, which is named h
            route = f"{'h' if isinstance(module, SIM) else route}2{route}"
        return f"{prefix}.{route}_{stages[first]}"

    load(module, name)


def load_rsu(module: nnx.Module, prefix: str) -> None:
    """Weights of a recorded RSU; its units are numbered from 1, the decoding ones with a ``d``."""
    height = len(module.encode) + 1

    def name(path: str) -> str:
        parts = path.split(".")
        leaf = {"conv": "conv_s1", "norm": "bn_s1"}[parts[-1]]
        unit = {"embed": "in", "bottom": f"{height}"}.get(parts[0])
        if parts[0] == "encode":
            unit = f"{int(parts[1]) + 1}"
        if parts[0] == "decode":
            unit = f"{height - 1 - int(parts[1])}d"
        return f"{prefix}.rebnconv{unit}.{leaf}"

    load(module, name)
