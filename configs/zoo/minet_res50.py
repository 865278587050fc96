"""MINet on ResNet-50 (Pang et al., CVPR 2020) on DUTS-TR, then on the 604 photos of CUHK.

    python train.py --config configs/zoo/minet_res50.py --config.model.backbone_weights=FILE  # SOD, as published
    python train.py --config configs/zoo/minet_res50.py:dbd --init_from runs/zoo/minet_res50  # DBD, the paper's

Recipe (its config.py): 320 px, horizontal flip, rotation by up to 10 degrees, colour jitter 0.1, cross-entropy and
CEL, SGD 1e-3 with momentum 0.9, decay 5e-4, a learning rate that falls as (1 - epoch/50)^0.9, batch 4, ResNet-50 of
ImageNet.

Departures: no normalisation is decayed; the original decays those whose name lacks "bn" (in its shortcuts and
fusions). Masks are resized bilinearly, then 0 or 1; the original takes the nearest pixels' values.

FILE has ImageNet's weights, see docs/weights.md; without it the backbone begins at random.

Variants: ``:dbd``, ``:own-dbd``, ``:small``, ``:demo``, ``:demo-dbd``; see ``afiu_jax/training/zoo.py``.
"""

from afiu_jax.training.zoo import zoo


def get_config(variant: str = ""):
    return zoo(
        "minet_res50",
        variant,
        image_size=320,
        data={"vertical_flip": 0.0, "horizontal_flip": 0.5, "rotation": 10.0},
        train={
            "optimizer": "sgd",
            "learning_rate": 1e-3,
            "schedule": "poly",
            "weight_decay": 5e-4,
            "decay_kernels_only": True,
            "batch_size": 4,
            "num_epochs": 50,
        },
    )
