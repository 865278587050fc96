"""U²-Netp for defocus blur detection, as shipped: from the published SOD weights, on bokeh composited from MSRA10K.

    afiu import-weights --model u2netp --from u2netp.onnx --out runs/u2netp-sod --calibrate PHOTOS
    python train.py --config configs/released/u2netp_dbd.py --init_from runs/u2netp-sod --workdir runs/u2netp-dbd
    afiu export --weights runs/u2netp-dbd --half --size 256 --antialias -o u2netp-dbd.safetensors

``PHOTOS`` is a folder with some hundreds of photos; it was every twentieth of msra10k/train/images, 300 in all.
``msra10k`` holds train/ and val/, each with images/ and masks/ (255 = salient); another place is
``--config.data.train.path=…`` and the same of val and test.

Recipe: the paper's transfer, every weight and then all of them trained with Adam on deep supervision. Departures
(docs/released.md has what was measured):

- 1 = in focus while training, which keeps the sign of the saliency prior; the maps of ``afiu predict`` are 1 = blurred.
- Adam 3e-4 in place of 1e-5, for the steps are few (2.98e-4 in the last hundred steps of the shipped network).
- Horizontal flips in place of vertical ones, for the composites know where the ground is.
- 224 px, since a 400 px photo shrunk to that is about as crisp as a 640 px photo at 320 px, in crops of 160 px, which
  two cores take more than twice as fast.
- Batch statistics estimated anew before each validation, for the average over batches of 12 is noisy.

Time: 73 minutes on two cores that were busy with other work. Score on the eight photos: MAE .1152, max F .9599.
"""

from afiu_jax.training.schema import base_config, dataset


def get_config():
    config = base_config()
    config.model.name = "u2netp"
    config.task.name = "dbd"
    config.task.positive = "focus"
    config.data.train = dataset("bokeh", path="msra10k", split="train")
    config.data.val = dataset("bokeh", path="msra10k", split="val[:100]")
    config.data.test = dataset("bokeh", path="msra10k", split="val")
    config.data.image_size = 224
    config.data.vertical_flip = 0.0
    config.data.horizontal_flip = 0.5
    config.data.color_jitter = 0.2
    config.data.random_crop = 160
    config.train.batch_size = 12
    config.train.num_steps = 600
    config.train.learning_rate = 3e-4
    config.train.statistics_batches = 30
    config.eval.every_steps = 100
    config.checkpoint.every_steps = 50
    return config
