"""Names of AFIU, of which no weights were published: its own module names, with those of the originals inside.

Levels are ResNet's, AIM and SIM are MINet's, the decoders U²-Net's: ``E3.0.conv2``, ``AIM1.h2h_0``, ``D5.rebnconvin``.
"""

from flax import nnx

from afiu_jax.interop.names import blocks


def module_name(model: nnx.Module, path: str) -> str:
    """The name of the sub-module at ``path``."""
    module, _, rest = path.partition(".")
    if module == "head":
        return module
    if module == "E1" or module.startswith("fusion"):
        return f"{module}.{blocks.numbered(rest)}"
    if module.startswith("E"):
        return f"{module}.{blocks.resnet_level(rest)}"
    inside = blocks.rsu if module.startswith("D") else blocks.interaction
    return f"{module}.{inside(getattr(model, module), rest)}"


def backbone_name(key: str) -> str | None:
    """``E1.0.weight`` is torchvision's ``conv1.weight``, ``E3.0.bn1.bias`` its ``layer2.0.bn1.bias``."""
    level, _, rest = key.partition(".")
    if level == "E1":
        return rest.replace("0.", "conv1.", 1) if rest.startswith("0.") else rest.replace("1.", "bn1.", 1)
    return f"layer{int(level[1]) - 1}.{rest}" if level in ("E2", "E3", "E4", "E5") else None
