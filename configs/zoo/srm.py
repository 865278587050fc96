"""SRM (Wang et al., ICCV 2017) on DUTS-TR, then on the 604 photos of CUHK.

    python train.py --config configs/zoo/srm.py                            # SOD, as published
    python train.py --config configs/zoo/srm.py:dbd --init_from runs/zoo/srm   # DBD, the paper's transfer

Recipe (its solver.prototxt): 353 px, not smoothed (in its test, MATLAB smooths), no augmentation, softmax loss of
three maps summed over pixels, SGD 1e-10 with momentum 0.99, decay 5e-4, batch 1, 300,000 steps (its test takes the
snapshot of 100,000).

Departures: the loss is the mean over pixels, so the learning rate is 353² times its own and the decay, which goes with
the rate and was no sum, as much less; new layers learn at the rate
of the old ones, where the original has them ten times as fast; normalisations learn (``model.options.frozen_norm``).

Variants: ``:dbd``, ``:own-dbd``, ``:small``, ``:demo``, ``:demo-dbd``; see ``afiu_jax/training/zoo.py``.
"""

from afiu_jax.training.zoo import zoo


def get_config(variant: str = ""):
    return zoo(
        "srm",
        variant,
        image_size=353,
        data={"antialias": False, "vertical_flip": 0.0, "color_jitter": 0.0},
        train={
            "optimizer": "sgd",
            "momentum": 0.99,
            "learning_rate": 1.25e-5,
            "weight_decay": 5e-4 / 353**2,
            "batch_size": 1,
            "num_steps": 300_000,
        },
    )
