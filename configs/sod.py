"""SOD pre-training, the first stage of the paper (sections 3.1, 3.3): AFIU on DUTS-TR.

    python train.py --config configs/sod.py

Reproduces: Table 3, row "Ours" (DUTS-TE max F .8711, MAE .0416), the check that the stage is right before any transfer.
Time: the paper reports 24 h on one RTX 2080 Ti; ours has not been run at this size.
Data: ``afiu data prepare duts``. The paper names no validation data; this file scores 500 images of DUTS-TE while
training, and the checkpoint that a transfer takes is the best of them by MAE.
Departures: the loss is the mean over pixels, not the sum (Adam's steps are the same); strength of the colour jitter
is ours (0.1), the paper gives none.

Variants
    ``:small``  AFIU-small at 128 px from scratch on a folder of your own (``--config.data.train.path=…``), for a CPU;
                learning rate 1e-3, since a small network from scratch needs it. See docs/first-run.md.
    ``:demo``   AFIU-small at 96 px on generated scenes: minutes on two cores, no data needed.
"""

from afiu_jax.training.config import base_config, dataset, unknown_variant


def get_config(variant: str = ""):
    config = base_config()
    config.data.train = dataset("duts", split="train")
    config.data.val = dataset("duts", split="test[:500]")
    config.data.test = dataset("duts", split="test")
    if variant == "small":
        small(config)
        for part, split in (("train", "train"), ("val", "val"), ("test", "val")):
            config.data[part] = dataset("folder", split=split)
    elif variant == "demo":
        demo(config)
    elif variant:
        raise unknown_variant(variant, ("small", "demo"))
    return config


def small(config) -> None:
    """A run of about an hour on two cores."""
    config.model.preset = "small"
    config.data.image_size = 128
    config.train.batch_size = 16
    config.train.learning_rate = 1e-3
    config.train.num_epochs = 10
    config.eval.every_steps = 500
    config.checkpoint.every_steps = 250
    config.eval.batch_size = 16


def demo(config) -> None:
    """A run of about a minute on two cores."""
    small(config)
    config.data.image_size = 96
    config.data.train = dataset("scenes", split="train")
    config.data.val = dataset("scenes", split="val")
    config.data.test = dataset("scenes", split="test")
    config.train.num_steps = 150
    config.eval.every_steps = 150
    config.checkpoint.every_steps = 150
    config.logging.every_steps = 5
