"""What is the encoder of each network, level by level: what fine-tuning may freeze or slow down.

The encoder is what gives features, the backbone as a rule; AFIU's has AIM, SIM and fusion behind it (section 3.2 of
the paper). All else, decoders and heads, is called the decoder.
"""

import re
from collections.abc import Mapping

from afiu_jax.errors import UserError

_RESNET_LEVELS = ("E1", "E2", "E3", "E4", "E5")
_CPD_LEVELS = ("E1", "E2", "E3", "E4_[12]", "E5_[12]")
_U2NET_LEVELS = ("stage1", "stage2", "stage3", "stage4", "stage5", "stage6")

ENCODERS: Mapping[str, tuple[str, ...]] = {
    "afiu": (*_RESNET_LEVELS, "(AIM|SIM|fusion)[1-5]"),
    "basnet": ("stem|encoder1", "encoder2", "encoder3", "encoder4", "encoder5", "encoder6"),
    "cpd_res50": _CPD_LEVELS,
    "cpd_vgg16": _CPD_LEVELS,
    "minet_res50": _RESNET_LEVELS,
    "minet_vgg16": _RESNET_LEVELS,
    "srm": ("backbone[12]",),
    "sun": ("stem", "layer1", "layer2", "layer3", "layer4"),
    "u2net": _U2NET_LEVELS,
    "u2netp": _U2NET_LEVELS,
}
"""By network, a pattern of the names of its sub-modules for each level, from the image inwards."""


def encoder_levels(network: str) -> int:
    """How many levels the encoder of a network has.

    Raises:
        UserError: a network of which it is not said what the encoder is.
    """
    if network not in ENCODERS:
        raise UserError(f"what the encoder of {network} is stands nowhere: add it to afiu_jax/networks/encoders.py")
    return len(ENCODERS[network])


def encoder_level(network: str, module: str) -> int | None:
    """The level of a sub-module, 0 at the image; None of the decoder's.

    Args:
        network: its key in ``NETWORKS``.
        module: name of one of its sub-modules, such as ``E1``; not of a part of one.
    """
    levels = (level for level, names in enumerate(ENCODERS[network]) if re.fullmatch(names, module))
    return next(levels, None)
