"""What configurations share: their ``:small`` and ``:demo`` variants, and the files of ``configs/zoo``."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from afiu_jax.networks import NETWORKS
from afiu_jax.networks.published import PUBLISHED
from afiu_jax.training.config import dataset, load_config, unknown_variant

_ZOO = {
    "": "sod",
    "small": "sod:small",
    "demo": "sod:demo",
    "dbd": "dbd",
    "own-dbd": "dbd",
    "demo-dbd": "dbd:demo",
}


def shrink(config: ConfigDict) -> None:
    """Makes a run fit two CPU cores: the network's small preset at 128 px.

    The learning rate is a hundred times the paper's, which is meant for a large network and many epochs.
    """
    config.model.preset = "small"
    config.data.image_size = 128
    config.train.batch_size = 16
    config.train.learning_rate = 1e-3
    config.eval.batch_size = 16
    config.checkpoint.every_steps = 250


def generate(config: ConfigDict) -> None:
    """Makes a run take about a minute on two cores and need no data: 96 px, generated scenes."""
    shrink(config)
    config.data.image_size = 96
    for part, split in (("train", "train"), ("val", "val[:100]"), ("test", "test[:100]")):
        config.data[part] = dataset("scenes", split=split)
    config.train.num_steps = 120
    config.eval.every_steps = 120
    config.checkpoint.every_steps = 120
    config.logging.every_steps = 5


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
