"""Weights and images by the deterministic rule under which the original networks were recorded, and the recordings.

The rule fills a tensor from its published PyTorch name and shape alone. ``fill_model`` puts those tensors into a
network, ``load_*`` into a block of ours. Recordings that are too large for the repository lie in a folder ``shared``
beside it; tests that need them are skipped where it is missing.
"""

import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.random import PCG64, Generator

from afiu_jax.interop.layout import Entry, entries
from afiu_jax.interop.names import blocks

FIXTURES = Path(__file__).parents[2] / "shared" / "fixtures"

# First match wins. The gains keep every output of the recorded networks within a few units.
_GAIN = [
    (r"^(side\d|outconv\w?|refunet\.conv_d0)\.", 1.0),
    (r"^classifier\.", 0.5),
    (r"^(upsample_\d_\d|fuse|conv_p\d|conv_cat)", 4.0),
    (r"^(pdcmblock\d|cam_conv\d_\d)\.", 0.65),
    (r"^stage\dd?\.", 1.4),
    (r"^vgg\.", 2.5),
    (r"^(rfb\d_\d|agg\d|trans|sim\d+|upconv\d+)\.", 0.8),
    (r"^(conv5_|conv6\.|conv3_4|combine|layer_\d+_1_(bn1_compress|conv_expand))", 1.0),
    (r"^layer_\d+_\d_conv3", 0.2),
    (r"", 2.0),
]
_DAMP = [(r"\.bn3\.weight$", 0.3), (r"^(encoder\d\.\d|resb\d_\d)\.bn2\.weight$", 0.3), (r"", 1.0)]
_GAMMA = {"cam1": 0.03, "cam2": 0.016, "cam3": 0.008, "cam4": 0.004, "cam5": 0.016}
_LEAF = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var", "bias": "bias"}


def fill(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor of a published name, float32, in PyTorch's layout (convolutions O, I, kh, kw)."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    random = _generator(key)
    pick = lambda table: next(value for pattern, value in table if re.search(pattern, key))  # noqa: E731
    if key.endswith("running_var"):
        return (0.5 + random.random(shape)).astype(np.float32)
    if key.endswith("gaussian_kernel"):
        return ((0.5 + random.random(shape)) / np.prod(shape)).astype(np.float32)
    normal = random.standard_normal(shape)
    if key.endswith("running_mean"):
        a = 0.1 * normal
    elif key.endswith(".gamma"):
        a = _GAMMA[key.split(".")[0]] * (1 + 0.1 * normal)
    elif key.endswith("relu.weight"):
        a = 0.25 + 0.05 * normal
    elif len(shape) >= 2:
        a = normal * np.sqrt(pick(_GAIN) / np.prod(shape[1:]))
    elif key.endswith("bias"):
        a = 0.1 * normal
    else:
        a = pick(_DAMP) * (1 + 0.1 * normal)
    return a.astype(np.float32)


def field(shape: tuple[int, int, int, int], tag: str = "x") -> np.ndarray:
    """The image of a tag and a shape ``[b, c, h, w]``: noise and four waves per channel."""
    b, c, h, w = shape
    random = _generator(f"{tag}:{b}x{c}x{h}x{w}")
    rows, columns = (np.arange(h)[:, None] + 0.5) / h, (np.arange(w) + 0.5) / w
    x = 0.3 * random.standard_normal(shape)
    for plane in x.reshape(b * c, h, w):
        for _ in range(4):
            u, v = random.uniform(-4, 4, 2)
            phase, amplitude = random.uniform(0, 2 * np.pi), random.uniform(0.3, 0.8)
            plane += amplitude * np.sin(2 * np.pi * (u * rows + v * columns) + phase)
    return x.astype(np.float32)


def mask(shape: tuple[int, int, int, int]) -> np.ndarray:
    """The mask of a shape ``[b, 1, h, w]``, 0 and 1."""
    return (field(shape, "mask") > 0.2).astype(np.float32)


def _generator(seed: str) -> Generator:
    return Generator(PCG64(zlib.crc32(seed.encode())))


def channels_last(array: np.ndarray) -> jnp.ndarray:
    """``[b, c, h, w]`` as ours, ``[b, h, w, c]``."""
    return jnp.asarray(array.transpose(0, 2, 3, 1))


def fixture(name: str) -> Path:
    """A file of the folder of recordings; the test is skipped where it is missing."""
    if not (FIXTURES / name).exists():
        pytest.skip(f"needs ../shared/fixtures/{name}")
    return FIXTURES / name


def recorded_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the published state dict of a recorded network."""
    return {key: tuple(shape) for key, shape in json.loads(fixture(f"{name}.keys.json").read_text())}


class Recording:
    """What an original network gave for its recorded inputs, in our layout.

    Keys begin with the input's size, ``s96x96``: ``.input``, ``.logit.<name>``, ``.tap.<module>`` and so on.
    """

    def __init__(self, name: str):
        self.arrays = np.load(fixture(f"{name}.npz"))
        arrays = json.loads(fixture(f"{name}.meta.json").read_text())["arrays"]
        self.stored = {key: array["stored"] for key, array in arrays.items()}

    def __getitem__(self, key: str) -> jnp.ndarray:
        return channels_last(self.arrays[key])

    def keys(self, size: str) -> list[str]:
        """Keys of one input size, without the size and without the input."""
        prefix = f"{size}."
        return [k.removeprefix(prefix) for k in self.arrays if k.startswith(prefix) and not k.endswith(".input")]

    def error(self, key: str, ours: jnp.ndarray) -> float:
        """Largest difference over the recorded array's largest absolute value."""
        theirs, ours = self.arrays[key], np.asarray(ours).transpose(0, 3, 1, 2)
        if (stored := self.stored[key]) != "full":
            parts = (part.split(":") for part in stored.strip("[]").split(","))
            ours = ours[tuple(slice(*(int(n) if n else None for n in part)) for part in parts)]
        assert ours.shape == theirs.shape, f"{key}: {ours.shape}, not {theirs.shape}"
        return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def fill_model(model: nnx.Module, name: str) -> None:
    """Fills a network, given with its key in ``NETWORKS``, in place and puts it into evaluation mode."""
    for entry in entries(model, name):
        entry.write(fill(entry.key, entry.shape))
    model.eval()


def load(block: nnx.Module, published_name: Callable[[str], str]) -> None:
    """Fills a block in place; ``published_name`` maps a path of sub-modules, dotted, to the published one."""
    for path, variable in nnx.to_flat_state(nnx.state(block, (nnx.Param, nnx.BatchStat))):
        *modules, leaf = map(str, path)
        entry = Entry(f"{published_name('.'.join(modules))}.{_LEAF[leaf]}", leaf, variable)
        entry.write(fill(entry.key, entry.shape))
    block.eval()


def load_resnet(levels: tuple[nnx.Module, ...]) -> None:
    """Weights of the recorded ResNet-50 for the five levels."""
    stem, *deeper = levels
    load(stem, lambda path: f"div_2.{blocks.numbered(path)}")
    for level, prefix in zip(deeper, ("div_4.1", "div_8", "div_16", "div_32"), strict=True):
        load(level, lambda path, prefix=prefix: f"{prefix}.{blocks.resnet_level(path)}")


def load_interaction(module: nnx.Module, prefix: str) -> None:
    """Weights of a recorded AIM or SIM."""
    load(module, lambda path: f"{prefix}.{blocks.interaction(module, path)}")


def load_rsu(module: nnx.Module, prefix: str) -> None:
    """Weights of a recorded RSU."""
    load(module, lambda path: f"{prefix}.{blocks.rsu(module, path)}")
