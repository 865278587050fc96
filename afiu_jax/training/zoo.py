"""The configurations of ``configs/zoo``: the networks of the paper's Table 2, each with its own recipe or AFIU's."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from afiu_jax.networks import NETWORKS
from afiu_jax.networks.published import PUBLISHED
from afiu_jax.training.schema import load_config, unknown_variant

_ZOO = {
    "": "sod",
    "small": "sod:small",
    "demo": "sod:demo",
    "dbd": "dbd",
    "own-dbd": "dbd",
    "demo-dbd": "dbd:demo",
}


def zoo(network: str, variant: str, *, image_size: int, data: Mapping, train: Mapping) -> ConfigDict:
    """The configuration of a network of the paper's Table 2.

    Args:
        network: a key of ``NETWORKS``.
        variant: nothing: the network's own SOD recipe on DUTS; ``dbd``: the paper's transfer recipe on the 604 photos
            of CUHK, which is AFIU's (section 3.3), on photos resized as the network's are; ``own-dbd``: the network's
            own recipe there, for as many epochs, its learning rate changed at the same shares of the run; ``small``,
            ``demo``, ``demo-dbd``: the variants of ``configs/sod.py`` and ``configs/dbd.py``, and the small preset.
        image_size: of the published network, in pixels.
        data: what its recipe changes in ``data``.
        train: what its recipe changes in ``train``.

    Raises:
        UserError: no such variant.
    """
    if variant not in _ZOO:
        raise unknown_variant(variant, [name for name in _ZOO if name])
    config = load_config(*_ZOO[variant].split(":"))
    config.model.name, config.data.antialias = network, PUBLISHED[network].antialias
    if variant in ("", "dbd", "own-dbd"):
        config.data.image_size = image_size
    else:
        config.data.image_size = NETWORKS[network].sizes.nearest(config.data.image_size)[1]
    if variant in ("", "own-dbd"):
        epochs = config.train.num_epochs
        config.data.update(data)
        config.train.update(train)
        if variant:
            milestones = tuple(round(epoch * epochs / config.train.num_epochs) for epoch in config.train.milestones)
            config.train.update(num_epochs=epochs, num_steps=0, milestones=milestones)
    return config
