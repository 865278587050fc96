"""BASNet (Qin et al., CVPR 2019) on DUTS-TR, then on the 604 photos of CUHK.

    python train.py --config configs/zoo/basnet.py --config.model.backbone_weights=FILE  # SOD, as published
    python train.py --config configs/zoo/basnet.py:dbd --init_from runs/zoo/basnet   # DBD, the paper's transfer

Recipe (its basnet_train.py): 256 px cropped to 224 at random, image divided by its maximum, cross-entropy, structural
similarity and overlap of eight outputs, Adam 1e-3, batch 8, ResNet-34 of ImageNet.

Departures: the training set is not doubled by a mirrored copy on disk: a horizontal flip does it. The script runs
until it is stopped; 400,000 steps are our choice. Masks are resized bilinearly, then 0 or 1; the original takes the
nearest pixels' values, grey ones too.

FILE has ImageNet's weights, see docs/weights.md; without it the backbone begins at random.

Variants: ``:dbd``, ``:own-dbd``, ``:small``, ``:demo``, ``:demo-dbd``; see ``afiu_jax/training/zoo.py``.
"""

from afiu_jax.training.zoo import zoo


def get_config(variant: str = ""):
    return zoo(
        "basnet",
        variant,
        image_size=256,
        data={"random_crop": 224, "vertical_flip": 0.0, "horizontal_flip": 0.5, "color_jitter": 0.0},
        train={"learning_rate": 1e-3, "batch_size": 8, "num_steps": 400_000},
    )
