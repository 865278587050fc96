"""Names of BASNet: ``encoder6.blocks.0.conv1`` is ``resb6_1.conv1``, ``decoder5.layers.1.norm`` ``bn5d_m``.

The published graph is that since September 2019. The one before applied ``bn5d_2`` in the place of ``bn6d_2`` as well,
and so weights that were trained with it need ``bn6d_2`` to be a copy of ``bn5d_2``.
"""

from flax import nnx

from afiu_jax.interop.names import blocks

_STEM = {"conv": "inconv", "norm": "inbn"}
_LAYER = {"conv": "conv", "norm": "bn"}
_PLACE = ("1", "m", "2")


def module_name(model: nnx.Module, path: str) -> str:
    """The name of the sub-module at ``path``."""
    module, _, rest = path.partition(".")
    kind, level = module.rstrip("123456"), module[-1]
    match kind:
        case "stem":
            return _STEM[rest]
        case "side":
            return f"outconv{level}"
        case "side_bridge":
            return "outconvb"
        case "refine":
            return f"refunet.{_refinement(rest)}"
        case "encoder":
            block, layer = blocks.resnet_level(rest).split(".", 1)
            published = f"encoder{level}.{block}" if int(level) <= 4 else f"resb{level}_{int(block) + 1}"
            return f"{published}.{layer}"
        case "bridge" | "decoder":
            _, place, layer = rest.split(".")
            row = "bg" if kind == "bridge" else f"{level}d"
            return f"{_LAYER[layer]}{row}_{_PLACE[int(place)]}"


def backbone_name(key: str) -> str | None:
    """``encoder3.0.bn1.bias`` is torchvision's ``layer3.0.bn1.bias``; the stem is not ImageNet's."""
    return key.replace("encoder", "layer", 1) if key.startswith("encoder") else None


def _refinement(path: str) -> str:
    if path in ("embed", "head"):
        return {"embed": "conv0", "head": "conv_d0"}[path]
    part, *index, layer = path.split(".")
    i = int(index[0]) if index else 0
    unit = {"encode": f"{i + 1}", "bottom": "5", "decode": f"_d{4 - i}"}[part]
    return f"{_LAYER[layer]}{unit}"
