"""CPD on VGG-16 (Wu et al., CVPR 2019) on DUTS-TR, then on the 604 photos of CUHK.

    python train.py --config configs/zoo/cpd_vgg16.py --config.model.backbone_weights=FILE  # SOD, as published
    python train.py --config configs/zoo/cpd_vgg16.py:dbd --init_from runs/zoo/cpd_vgg16   # DBD, the paper's transfer

Recipe (its train.py): 352 px, no augmentation, cross-entropy of both maps, Adam 1e-4, every entry of the gradient
within 0.5, batch 10, 99 epochs, VGG-16 of ImageNet, narrow initial weights beside it.

Departures: the learning rate falls to a tenth at epoch 50, as intended; the released code lowers it again at every
epoch from then on. Masks are 0 or 1 after resizing, not grey.

FILE has ImageNet's weights, see docs/weights.md; without it the backbone begins at random.

Variants: ``:dbd``, ``:own-dbd``, ``:small``, ``:demo``, ``:demo-dbd``; see ``afiu_jax/training/zoo.py``.
"""

from afiu_jax.training.zoo import zoo


def get_config(variant: str = ""):
    config = zoo(
        "cpd_vgg16",
        variant,
        image_size=352,
        data={"vertical_flip": 0.0, "color_jitter": 0.0},
        train={
            "learning_rate": 1e-4,
            "schedule": "step",
            "milestones": (49,),
            "clip_value": 0.5,
            "batch_size": 10,
            "num_epochs": 99,
        },
    )
    if variant in ("", "dbd", "own-dbd"):
        config.model.options.narrow_init = True
    return config
