"""What a training run is: the schema of ``configs/*.py``, its defaults, and what is checked after parsing.

Files in ``configs/`` start from ``base_config`` and say what differs; ``--config.a.b=value`` changes anything from the
command line; ``resolve`` checks the result and fills in the network's own options. The resolved configuration is
plain data: it is written to the work directory and into every checkpoint.
"""

import difflib
import importlib.util
import os
import sys
from pathlib import Path

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from afiu_jax.errors import UserError
from afiu_jax.losses import DEFAULT_LOSS, LOSSES
from afiu_jax.networks import NETWORKS, network_options
from afiu_jax.networks.encoders import encoder_levels
from afiu_jax.training.ranges import check_option, check_values
from input_pipeline.bokeh import RADIUS

Resolved = dict
"""A resolved configuration: nested dictionaries of numbers, strings, lists and None."""

_DTYPES = ("float32", "bfloat16")  # float16 would take a scaled loss, and float64 is float32 in JAX unless told

_LENGTH = ("train.num_steps", "train.num_epochs")

MAY_CHANGE = (
    *_LENGTH,
    *("train.statistics_batches", "train.nonfinite", "train.remat", "train.deterministic", "train.layouts"),
    *("eval.", "logging.", "checkpoint.", "data.workers", "data.on_error", "data.test."),
)
"""What may differ when a run resumes: prefixes of keys. Paths of data may, too: they name the same data elsewhere."""


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
                "remat": False,  # keep convolutions' results only, compute the rest again: less memory
                "deterministic": False,  # on a GPU: the same bits on every run, for some of the speed
                "layouts": False,  # on a GPU: weights lie in memory as its convolutions take them
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


def resolve(config: ConfigDict) -> Resolved:
    """Checks a configuration and fills in what depends on the network.

    Raises:
        UserError: unknown key, network, preset, option, compute type, loss or normalisation; a number out of range.
    """
    data = config.to_dict()
    _reject_unknown_keys(data, base_config().to_dict())
    model, name = data["model"], data["model"]["name"]
    defaults = network_options(name)
    for attribute in ("sizes", "normalization"):
        if not hasattr(NETWORKS[name], attribute):
            raise UserError(
                f"network {name} has no attribute {attribute}: README.md, Adding a network, says which it needs"
            )
    preset = _preset(name, model["preset"])
    if unknown := sorted(set(model["options"]) - set(defaults)):
        raise UserError(f"network {name} has no option {', '.join(unknown)}; it has: {', '.join(defaults)}")
    model["options"] = {**defaults, **preset, **model["options"]}
    for option, value in model["options"].items():
        check_option(f"model.options.{option}", value, defaults[option])
    if (dtype := model["options"].get("dtype", "float32")) not in _DTYPES:
        raise UserError(f"model.options.dtype is {dtype!r}; it is one of: {', '.join(_DTYPES)}")
    if data["loss"]["name"] == "auto":
        if name not in DEFAULT_LOSS:
            raise UserError(
                f"{name} has no loss of its own: add it to DEFAULT_LOSS in afiu_jax/losses.py, or set loss.name"
            )
        data["loss"]["name"] = DEFAULT_LOSS[name]
    if data["loss"]["name"] not in LOSSES:
        raise UserError(f"unknown loss {data['loss']['name']!r}; loss.name is auto or one of: {', '.join(LOSSES)}")
    if data["data"]["normalize"] == "auto":
        data["data"]["normalize"] = NETWORKS[name].normalization
    check_values(dict(_flatten(data)))
    if data["train"]["freeze"] or data["train"]["layerwise_decay"] != 1:
        encoder_levels(name)
    return _plain(data)


def differences(old: Resolved, new: Resolved, may_change: tuple[str, ...] = MAY_CHANGE) -> list[str]:
    """Keys in which two configurations differ although they may not: ``key: old -> new``.

    What a run of an earlier version does not have yet has its default. The length of a run may not change where the
    learning rate depends on it (``poly``).

    Args:
        old: a run's.
        new: what is asked for.
        may_change: prefixes of keys that may differ; by default, those that may when a run resumes. Paths of data may,
            too.
    """
    defaults = _plain(base_config().to_dict())
    defaults["model"]["options"] = _plain(network_options(new["model"]["name"]))
    defaults, old, new = (dict(_flatten(config)) for config in (defaults, old, new))
    if new["train.schedule"] == "poly":
        may_change = tuple(key for key in may_change if key not in _LENGTH)
    before = lambda key: old.get(key, defaults.get(key))  # noqa: E731
    free = lambda key: key.startswith(may_change) or (key.startswith("data.") and key.endswith(".path"))  # noqa: E731
    return [
        f"{key}: {before(key)} -> {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if before(key) != new.get(key) and not free(key)
    ]


def batch_shape(config: Resolved) -> tuple[int, int, int]:
    """Images of a step, of all processes, and their height and width in pixels."""
    side = config["data"]["random_crop"] or config["data"]["image_size"]
    return config["train"]["batch_size"], side, side


def steps_per_epoch(config: Resolved) -> int:
    """As many as there are whole batches in ``config["records"]``, which a run counts before it begins; at least 1."""
    return max(1, config["records"] // config["train"]["batch_size"])


def num_steps(config: Resolved) -> int:
    """Steps of a run whose ``records`` are counted."""
    return config["train"]["num_steps"] or config["train"]["num_epochs"] * steps_per_epoch(config)


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


def _reject_unknown_keys(data: dict, schema: dict) -> None:
    known = {key for key, _ in _flatten(schema)}
    given = {key for key, _ in _flatten(data) if not key.startswith("model.options.")}
    for key in sorted(given - known):
        near = difflib.get_close_matches(key, known, n=1)
        raise UserError(f"unknown configuration key {key!r}" + (f"; did you mean {near[0]}?" if near else ""))


def _preset(name: str, preset: str) -> dict:
    if not preset:
        return {}
    presets = getattr(NETWORKS[name], "presets", {})
    if preset not in presets:
        have = f"it has: {', '.join(presets)}" if presets else "it has none"
        raise UserError(f"network {name} has no preset {preset!r} ({have}); set model.preset= to its full size")
    return presets[preset]


def _flatten(tree: dict, prefix: str = ""):
    for key, value in tree.items():
        if isinstance(value, dict) and (value or not prefix.startswith("model.")):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(tree):
    """Tuples as lists and paths as strings, so that what JSON gives back compares equal."""
    if isinstance(tree, os.PathLike):
        return os.fspath(tree)
    if isinstance(tree, dict):
        return {key: _plain(value) for key, value in tree.items()}
    return [_plain(value) for value in tree] if isinstance(tree, (list, tuple)) else tree
