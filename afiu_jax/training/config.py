"""A configuration once it is read: what is checked and filled in, what may change when a run resumes, its lengths.

``--config.a.b=value`` changes anything of a file from the command line; ``resolve`` checks the result and fills in the
network's own options. The resolved configuration is plain data: it is written to the work directory and into every
checkpoint.
"""

import difflib
import os

from ml_collections import ConfigDict

from afiu_jax.errors import UserError
from afiu_jax.losses import DEFAULT_LOSS, LOSSES
from afiu_jax.networks import NETWORKS, network_options
from afiu_jax.networks.encoders import encoder_levels
from afiu_jax.training.ranges import check_option, check_values
from afiu_jax.training.schema import Resolved, base_config

_DTYPES = ("float32", "bfloat16")  # float16 would take a scaled loss, and float64 is float32 in JAX unless told

_LENGTH = ("train.num_steps", "train.num_epochs")

MAY_CHANGE = (
    *_LENGTH,
    *("train.statistics_batches", "train.nonfinite"),
    *("train.remat", "train.deterministic", "train.layouts", "train.tf32"),
    *("eval.", "logging.", "checkpoint.", "data.workers", "data.on_error", "data.test."),
)
"""What may differ when a run resumes: prefixes of keys. Paths of data may, too: they name the same data elsewhere."""


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
