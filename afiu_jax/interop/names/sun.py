"""Names of SUN: ``D4.reduce.norm`` is ``cam_conv4_2.bn``, ``side5.units.1.relu`` is ``conv_p5_up_1.relu``."""

from flax import nnx

from afiu_jax.interop.names import blocks

_LAYER = {"conv": "conv", "norm": "bn", "relu": "relu"}
_UNIT = {"embed": 1, "reduce": 2, "project": 3}


def module_name(model: nnx.Module, path: str) -> str:
    """The name of the sub-module at ``path``."""
    module, _, rest = path.partition(".")
    level = module[-1]
    match module.rstrip("012345"):
        case "stem":
            return {"conv": "resnet.conv1", "norm": "resnet.bn1"}[rest]
        case "layer":
            return f"resnet.{module}.{blocks.resnet_level(rest)}"
        case "aspp":
            return f"aspp.{_aspp(rest)}"
        case "pdcm":
            return f"pdcmblock{level}.{_pdcm(rest)}"
        case "D":
            return _decoder(level, rest)
        case "side":
            return _side(model, level, rest)
        case "unused":
            return "resnet.fc" if rest == "fc" else rest
    return module


def backbone_name(key: str) -> str | None:
    """``resnet.layer3.0.bn1.bias`` is torchvision's ``layer3.0.bn1.bias``; its classifier reaches no output."""
    return key.removeprefix("resnet.") if key.startswith("resnet.") and not key.startswith("resnet.fc.") else None


def _aspp(path: str) -> str:
    unit, *index, layer = path.split(".")
    published = {"whole": "imagepool.conv", "fuse": "fire.conv"}.get(unit) or f"stages.c{index[0]}"
    return f"{published}.{_LAYER[layer]}"


def _pdcm(path: str) -> str:
    return "conv" if path == "embed" else f"conv{int(path.removeprefix('dilated.')) + 1}"


def _decoder(level: str, path: str) -> str:
    unit, _, layer = path.partition(".")
    if unit in _UNIT:
        return f"cam_conv{level}_{_UNIT[unit]}.{_LAYER[layer]}"
    return {"cam": f"cam{level}", "enlarge": f"upsample_2_{level}"}[unit]


def _side(model: nnx.Module, level: str, path: str) -> str:
    part, *index, layer = path.split(".") if "." in path else (path, path)
    if part == "gather":
        return f"conv_cat_{level}.{_LAYER[layer]}"
    published = "conv_p1_" if level == "1" else f"conv_p{level}_up_"
    # Unit 0 of levels 3 and 4 is one of those that the original never calls.
    first = 1 if level in "34" else 0
    if part == "head":
        return f"{published}{first + len(getattr(model, f'side{level}').units)}"
    return f"{published}{first + int(index[0])}.{_LAYER[layer]}"
