"""What configurations share: their ``:small`` and ``:demo`` variants."""

from ml_collections import ConfigDict

from afiu_jax.training.schema import dataset


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
