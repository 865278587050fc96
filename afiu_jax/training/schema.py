"""The schema of ``configs/*.py``: every key with its default, and what such files are written with.

Files in ``configs/`` start from ``base_config`` and say what differs. Nothing here needs JAX or a network, so that a
configuration is read at once; ``config.resolve`` checks it.
"""

import importlib.util
import sys
from pathlib import Path

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from afiu_jax.errors import UserError
from input_pipeline.bokeh import RADIUS

Resolved = dict
"""A resolved configuration: nested dictionaries of numbers, strings, lists and None."""


def base_config() -> ConfigDict:
    """The schema with defaults that suit any task; every key a configuration can have is here."""
    return ConfigDict(
        {
            "seed": 0,
            "task": {
                "name": "sod",  # in messages and reports
                "positive": "salient",  # what 1 means: salient, blur or focus
            },
            "model": {
                "name": "afiu",
                "preset": "",  # a named set of the network's options, such as "small"
                "options": {},  # the network's own, filled in after parsing
                "backbone_weights": placeholder(str),
            },
            "loss": {"name": "auto"},  # auto: the one that the network was published with
            "data": {
                "train": dataset("folder"),
                "val": dataset("folder"),
                "test": dataset("folder"),
                "image_size": 320,  # side of the square input, in pixels
                "normalize": "auto",  # auto: the one that the network was published with
                "antialias": False,
                "vertical_flip": 0.5,
                "horizontal_flip": 0.0,
                "color_jitter": 0.1,
                "rotation": 0.0,  # largest angle of a random rotation, in degrees
                "random_crop": 0,  # side of a random square of the resized image to train on; 0: all of it
                "workers": 2,  # threads that decode images
                "on_error": "stop",  # at data that cannot be used; or skip: go on without it
            },
            "train": {
                "batch_size": 8,  # of a step, over all devices of all processes
                "accumulate": 1,  # parts of a batch whose gradients are computed one after the other, to save memory
                # Parts of a batch that each have BN statistics of their own; 1: synchronised over all devices.
                "norm_groups": 1,
                "remat": False,  # keep results of convolutions and statistics, compute the rest again: less memory
                "deterministic": False,  # on a GPU: the same bits on every run, for some of the speed
                "layouts": False,  # on a GPU: weights lie in memory as its convolutions take them
                "tf32": True,  # on a GPU that has it: float32 is multiplied with 10 bits of 23; False: with all, slower
                "num_epochs": 150,
                "num_steps": placeholder(int),  # counts in place of num_epochs unless it is 0 or nothing
                "learning_rate": 1e-5,
                "optimizer": "adam",  # or sgd
                "beta1": 0.9,
                "beta2": 0.999,
                "momentum": 0.9,  # of sgd
                "schedule": "constant",  # of the learning rate; poly or step: see training/optimizer.py
                "milestones": (),  # epochs at which step divides the learning rate by 10
                "weight_decay": 0.0,
                "decay_kernels_only": False,  # no decay of biases and of normalisation
                "clip_value": 0.0,  # bound of every entry of the gradient; 0: none
                "clip_norm": 0.0,  # bound of the gradient's norm; 0: none
                "nonfinite": "stop",  # at a loss or gradient that is not finite; or skip: go on without that step
                "freeze": "",  # encoder: the network's encoder keeps its weights and statistics
                "layerwise_decay": 1.0,  # factor of the learning rate from one level of the encoder to the one before
                "l2sp": 0.0,  # strength of the pull towards the weights with which the run begins; 0: none
                # Estimate the batch statistics anew over so many batches before each validation; 0: keep the averages.
                "statistics_batches": 0,
            },
            "eval": {"every_steps": 2000, "batch_size": 8},
            "checkpoint": {"every_steps": 1000, "keep_last": 2},
            "logging": {"every_steps": 20, "tensorboard": True, "panels": 4},
        }
    )


def dataset(name: str, **fields) -> dict:
    """One of ``data.{train,val,test}``; the fields are those of ``input_pipeline.sources.Spec``."""
    return {
        "name": name,
        "path": placeholder(str),
        "split": placeholder(str),
        "white": placeholder(str),
        "images_dir": "images",
        "masks_dir": "masks",
        "source": "folder",
        "radius": RADIUS,
        **fields,
    }


def load_config(name: str, variant: str = "") -> ConfigDict:
    """The configuration ``configs/<name>.py`` that ships with the package, by name instead of by path.

    Raises:
        UserError: no such configuration.
    """
    package = Path(__file__).parents[1]
    # An installed package carries the folder inside; a checkout has it at its top.
    for folder in (package / "configs", package.parent / "configs"):
        if (path := folder / f"{name}.py").is_file():
            spec = importlib.util.spec_from_file_location(f"afiu_config_{name.replace('/', '_')}", path)
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # its file is one that a step's trace depends on
            spec.loader.exec_module(module)
            return module.get_config(variant)
    raise UserError(f"no configuration {name!r} in configs/")


def unknown_variant(variant: str, known: dict | tuple | list) -> UserError:
    """The error of a configuration file that is asked for a variant it does not have."""
    return UserError(f"no variant {variant!r}; write nothing after the file name or one of: :{', :'.join(known)}")
