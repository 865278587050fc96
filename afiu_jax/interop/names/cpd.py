"""Names of CPD on both backbones: ``RFB4_2.branches.1.layers.2.conv`` is ``rfb3_2.branch1.2.conv`` on ResNet-50.

There the levels are counted without the stem, so that our E4 is ``layer3``. On VGG-16 they bear our numbers.
"""

from flax import nnx

from afiu_jax.interop.names import blocks
from afiu_jax.networks.cpd import CPDRes50

_VGG_DEPTHS = (2, 2, 3, 3, 3)
_DECODER = {"join2": "conv_concat2", "join3": "conv_concat3", "mix": "conv4", "head": "conv5"}


def module_name(model: nnx.Module, path: str) -> str:
    """The name of the sub-module at ``path``."""
    module, _, rest = path.partition(".")
    if module == "HA":
        return module
    part, _, branch = module.partition("_")
    on_resnet = isinstance(model, CPDRes50)
    if part == "decoder":
        return f"agg{branch}.{_decoder(rest)}"
    kind, level = part[:-1], int(part[-1])
    published = f"{level - on_resnet}{branch and f'_{branch}'}"
    if kind == "RFB":
        return f"rfb{published}.{_rfb(rest)}"
    return _resnet(level, published, rest) if on_resnet else _vgg(level, published, branch, rest)


def backbone_name(key: str) -> str | None:
    """``resnet.layer3_2.0.bn1.bias`` is torchvision's ``layer3.0.bn1.bias``; both branches begin with the same weights.

    ``vgg.conv4_2.conv4_1_2.bias`` is its ``features.17.bias``.
    """
    backbone, _, rest = key.partition(".")
    if backbone == "resnet":
        level, _, layer = rest.partition(".")
        return f"{level.partition('_')[0]}.{layer}"
    if backbone == "vgg":
        _, layer, leaf = rest.split(".")
        level, unit = (int(n) for n in layer.removeprefix("conv").split("_")[:2])
        # Every unit is two of torchvision's layers, and a pooling ends each level.
        return f"features.{2 * (sum(_VGG_DEPTHS[: level - 1]) + unit - 1) + level - 1}.{leaf}"
    return None


def _resnet(level: int, published: str, path: str) -> str:
    if level == 1:
        return {"conv": "resnet.conv1", "norm": "resnet.bn1"}[path]
    return f"resnet.layer{published}.{blocks.resnet_level(path)}"


def _vgg(level: int, published: str, branch: str, path: str) -> str:
    unit = int(path.removeprefix("units.")) + 1
    return f"vgg.conv{published}.conv{level}_{unit}{branch and f'_{branch}'}"


def _rfb(path: str) -> str:
    unit, *rest = path.split(".")
    if unit == "branches":
        branch, _, unit, *rest = rest
        return ".".join([f"branch{branch}", unit, *_layer(rest)])
    return ".".join([{"gather": "conv_cat", "identity": "conv_res"}[unit], *_layer(rest)])


def _decoder(path: str) -> str:
    unit, *rest = path.split(".")
    if unit == "up":
        i, *rest = rest
        return ".".join([f"conv_upsample{int(i) + 1}", *_layer(rest)])
    return ".".join([_DECODER[unit], *_layer(rest)])


def _layer(path: list[str]) -> list[str]:
    """Of a normalised unit; without normalisation the unit is the convolution."""
    return [{"conv": "conv", "norm": "bn"}[layer] for layer in path]
