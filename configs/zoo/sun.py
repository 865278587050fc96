"""SUN, also SUCA, on a dilated ResNet-50, on DUTS-TR, then on the 604 photos of CUHK.

    python train.py --config configs/zoo/sun.py --config.model.backbone_weights=FILE  # SOD, as published
    python train.py --config configs/zoo/sun.py:dbd --init_from runs/zoo/sun   # DBD, the paper's transfer

Recipe (its repository): 256 px, no augmentation, cross-entropy of six maps, the fused one weighing 1.1, Adam 5e-5, a
tenth of it after epochs 80 and 90, gradient norm within 1, batch 29, 100 epochs, ResNet-50 of ImageNet.

Departures: the optimiser keeps its moments where the learning rate changes; the original makes a new one.

FILE has ImageNet's weights, see docs/weights.md; without it the backbone begins at random.

Variants: ``:dbd``, ``:own-dbd``, ``:small``, ``:demo``, ``:demo-dbd``; see ``afiu_jax/training/zoo.py``.
"""

from afiu_jax.training.zoo import zoo


def get_config(variant: str = ""):
    return zoo(
        "sun",
        variant,
        image_size=256,
        data={"vertical_flip": 0.0, "color_jitter": 0.0},
        train={
            "learning_rate": 5e-5,
            "schedule": "step",
            "milestones": (80, 90),
            "clip_norm": 1.0,
            "batch_size": 29,
            "num_epochs": 100,
        },
    )
