"""U²-Net (Qin et al., Pattern Recognition 2020) on DUTS-TR, then on the 604 photos of CUHK.

    python train.py --config configs/zoo/u2net.py                            # SOD, as published
    python train.py --config configs/zoo/u2net.py:dbd --init_from runs/zoo/u2net   # DBD, the paper's transfer

Recipe (its u2net_train.py): 320 px cropped to 288 at random, vertical flip, image divided by its maximum, cross-
entropy of seven outputs, Adam 1e-3, batch 12, about 600,000 steps.

Departures: the training set is not doubled by a mirrored copy on disk: a horizontal flip does it.
Masks are resized bilinearly, then 0 or 1; the original takes the nearest pixels' values, grey ones too.

Variants: ``:dbd``, ``:own-dbd``, ``:small``, ``:demo``, ``:demo-dbd``; see ``afiu_jax/training/zoo.py``.
"""

from afiu_jax.training.zoo import zoo


def get_config(variant: str = ""):
    return zoo(
        "u2net",
        variant,
        image_size=320,
        data={"random_crop": 288, "vertical_flip": 0.5, "horizontal_flip": 0.5, "color_jitter": 0.0},
        train={"learning_rate": 1e-3, "batch_size": 12, "num_steps": 600_000},
    )
