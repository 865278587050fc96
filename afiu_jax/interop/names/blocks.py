"""Published names inside the blocks that several networks share.

Each function takes our path of a sub-module inside the block, dotted, and gives the published one; the network's own
file puts the block's name in front.
"""

from afiu_jax.blocks.aim import AIM
from afiu_jax.blocks.rsu import RSU
from afiu_jax.blocks.sim import SIM

_PROJECTION = {"downsample_conv": "downsample.0", "downsample_bn": "downsample.1"}
_STAGE = {"embed": 0, "exchange": 1, "merge": 2, "project": 3, "project_norm": 3}


def numbered(path: str) -> str:
    """``conv`` and ``norm`` of a ``ConvNormReLU`` that was published as a row of layers: ``0`` and ``1``."""
    return {"conv": "0", "norm": "1"}[path]


def resnet_level(path: str) -> str:
    """A ResNet level after the stem: ``blocks.0.downsample_conv`` is ``0.downsample.0``."""
    block, layer = path.removeprefix("blocks.").split(".")
    return f"{block}.{_PROJECTION.get(layer, layer)}"


def interaction(block: AIM | SIM, path: str) -> str:
    """AIM or SIM (MINet), whose stages are numbered: ``exchange.conv.h2m`` is ``h2m_1``, ``merge.norm.m`` ``bnm_2``."""
    stage, *rest = path.split(".")
    if stage == "identity":
        return stage
    if stage.startswith("project"):
        kind, branch = stage, block.main
        route = f"{branch}2{branch}"
    elif stage == "embed":
        branch, kind = rest
        # A SIM makes both of its branches from one map, which is h.
        route = f"{'h' if isinstance(block, SIM) else branch}2{branch}"
    else:
        kind, branch = rest
        route = branch
    return f"bn{branch}_{_STAGE[stage]}" if kind.endswith("norm") else f"{route}_{_STAGE[stage]}"


def rsu(block: RSU, path: str) -> str:
    """RSU (U²-Net), whose units are numbered from 1: ``decode.0.conv`` of an RSU-4 is ``rebnconv3d.conv_s1``."""
    part, *index, layer = path.split(".")
    height = len(block.encode) + 1
    unit = {
        "embed": lambda: "in",
        "encode": lambda: int(index[0]) + 1,
        "bottom": lambda: height,
        "decode": lambda: f"{height - 1 - int(index[0])}d",
    }[part]()
    return f"rebnconv{unit}.{'conv_s1' if layer == 'conv' else 'bn_s1'}"
