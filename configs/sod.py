"""SOD pre-training, the first stage of the paper (sections 3.1, 3.3): AFIU on DUTS-TR.

    python train.py --config configs/sod.py

Reproduces: Table 3, row "Ours" (DUTS-TE max F .8711, MAE .0416), the check that the stage is right before any transfer.
Time: the paper reports 24 h on one RTX 2080 Ti; ours has not been run at this size.
Data: ``afiu data prepare duts``. The paper names no validation data; this file scores 500 images of DUTS-TE while
training, and the checkpoint that a transfer takes is the best of them by MAE.
Departures: the loss is the mean over pixels, not the sum (Adam's steps are the same up to its epsilon); strength of
the colour jitter is ours (0.1), the paper gives none.

Variants
    ``:small``  AFIU-small at 128 px from scratch on a folder of your own (``--config.data.train.path=…``), for a CPU;
                learning rate 1e-3, since a small network from scratch needs it. See docs/first-run.md.
    ``:demo``   AFIU-small at 96 px on generated scenes: a minute on two cores, no data needed.
"""

from afiu_jax.training.schema import base_config, dataset, unknown_variant
from afiu_jax.training.variants import generate, shrink


def get_config(variant: str = ""):
    config = base_config()
    config.data.train = dataset("duts", split="train")
    config.data.val = dataset("duts", split="test[:500]")
    config.data.test = dataset("duts", split="test")
    if variant == "small":
        shrink(config)
        for part, split in (("train", "train"), ("val", "val"), ("test", "val")):
            config.data[part] = dataset("folder", split=split)
        config.train.num_epochs = 10
        config.eval.every_steps = 500
    elif variant == "demo":
        generate(config)
    elif variant:
        raise unknown_variant(variant, ("small", "demo"))
    return config
