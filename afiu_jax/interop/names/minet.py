"""Names of MINet on both backbones, where levels are numbered by their strides.

``SIM5.exchange.conv.h2l`` is ``sim32.h2l_1`` on ResNet-50 and ``sim16.h2l_1`` on VGG-16.
"""

from flax import nnx

from afiu_jax.interop.names import blocks
from afiu_jax.networks.minet import MINetVGG16

_FIRST_OF_LEVEL = {1: 0, 2: 6, 4: 13, 8: 23, 16: 33}
"""Where the level of a stride begins in torchvision's ``features``."""


def module_name(model: nnx.Module, path: str) -> str:
    """The name of the sub-module at ``path``."""
    module, _, rest = path.partition(".")
    if module == "head":
        return "classifier"
    kind, level = module[:-1], int(module[-1])
    stride = model.stride * 2 ** (level - 1) if level else 1
    match kind:
        case "E" if isinstance(model, MINetVGG16):
            return f"encoder{stride}.{_vgg_layer(rest, pools=level > 1)}"
        case "E" if level == 1:
            return f"div_2.{blocks.numbered(rest)}"
        case "E":
            # The level of stride 4 is a row of its pooling, 0, and its blocks, 1.
            return f"div_{stride}.{'1.' if stride == 4 else ''}{blocks.resnet_level(rest)}"
        case "AIM":
            return f"trans.conv{level - 1}.{blocks.interaction(getattr(model, module), rest)}"
        case "SIM":
            return f"sim{stride}.{blocks.interaction(getattr(model, module), rest)}"
        case "fusion":
            return f"upconv{stride}.basicconv.{blocks.numbered(rest)}"


def backbone_name(key: str) -> str | None:
    """``div_8.0.bn1.bias`` is torchvision's ``layer2.0.bn1.bias``, ``encoder2.4.bias`` its ``features.10.bias``."""
    level, _, rest = key.partition(".")
    if level.startswith("encoder"):
        layer, _, leaf = rest.partition(".")
        return f"features.{_FIRST_OF_LEVEL[int(level.removeprefix('encoder'))] + int(layer)}.{leaf}"
    match level:
        case "div_2":
            layer, _, leaf = rest.partition(".")
            return f"{('conv1', 'bn1')[int(layer)]}.{leaf}"
        case "div_4":
            return f"layer1.{rest.removeprefix('1.')}"
        case "div_8" | "div_16" | "div_32":
            return f"layer{('div_8', 'div_16', 'div_32').index(level) + 2}.{rest}"
    return None


def _vgg_layer(path: str, *, pools: bool) -> str:
    """The number of a layer in its level, where every unit is convolution, normalisation and ReLU."""
    _, unit, layer = path.split(".")
    return str(int(pools) + 3 * int(unit) + ("conv", "norm").index(layer))
