"""What the values of a configuration may be."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from afiu_jax.errors import UserError


def check_option(key: str, value: object, default: object) -> None:
    """Refuses a network's option of another kind than its default; what is None by default is any single value.

    Args:
        key: of the option, for the message.
        value: the option.
        default: the network's.

    Raises:
        UserError: another kind, or a dictionary, which is no option.
    """
    if isinstance(default, Mapping):
        raise UserError(f"{key} is a dictionary by default: give the network an option for each of its values")
    if default is None and isinstance(value, (int, float, str, type(None))):
        return
    kinds = {tuple: (tuple, list), float: (float, int)}.get(type(default), type(default))
    if isinstance(default, tuple) and isinstance(value, (tuple, list)) and len(value) != len(default):
        raise UserError(f"{key} is {value!r}; it must be {len(default)} values like its default, {default!r}")
    if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(default, bool)):
        raise UserError(f"{key} is {value!r}; it must be like its default, {default!r}")


def check_values(flat: Mapping[str, Any]) -> None:
    """Refuses numbers out of range, and words that are none of those that there are.

    Args:
        flat: a configuration's values by dotted key.

    Raises:
        UserError: such a value.
    """
    for key in (
        *("data.workers", "data.image_size", "eval.batch_size", "eval.every_steps", "checkpoint.every_steps"),
        *("checkpoint.keep_last", "logging.every_steps", "train.batch_size", "train.num_epochs", "train.accumulate"),
        "train.norm_groups",
    ):
        if not flat[key] or flat[key] < 1:
            raise UserError(f"{key} is {flat[key]}; it must be at least 1")
    if (flat["train.num_steps"] or 0) < 0:
        raise UserError(f"train.num_steps is {flat['train.num_steps']}; it must be at least 1, or 0 for num_epochs")
    for key in (
        *("seed", "train.learning_rate", "train.weight_decay", "train.clip_value", "train.clip_norm"),
        *("train.l2sp", "train.statistics_batches", "data.rotation", "data.random_crop", "logging.panels"),
    ):
        if not 0 <= flat[key] < math.inf:
            raise UserError(f"{key} is {flat[key]}; it must be a number that is not negative")
    if flat["seed"] >= 2**32:  # a key of JAX has 32 bits of it
        raise UserError(f"seed is {flat['seed']}; it must be less than 2**32")
    milestones = flat["train.milestones"]
    numbers = all(isinstance(epoch, int | float) and epoch > 0 for epoch in milestones)
    if not numbers or any(epoch >= following for epoch, following in pairwise(milestones)):
        raise UserError(f"train.milestones is {milestones}; it must be epochs above 0, each later than the one before")
    for key in (
        *("data.vertical_flip", "data.horizontal_flip", "data.color_jitter"),
        *("train.momentum", "train.layerwise_decay"),
    ):
        if not 0 <= flat[key] <= 1:
            raise UserError(f"{key} is {flat[key]}; it must lie in 0…1")
    for key in ("train.beta1", "train.beta2"):
        if not 0 <= flat[key] < 1:
            raise UserError(f"{key} is {flat[key]}; it must be at least 0 and less than 1")
    size, parts, groups = (flat[f"train.{key}"] for key in ("batch_size", "accumulate", "norm_groups"))
    if size % (parts * groups):
        raise UserError(
            f"train.batch_size is {size}; it must be a multiple of train.accumulate times train.norm_groups, "
            f"{parts} x {groups}: set it to {max(1, size // (parts * groups)) * parts * groups}"
        )
    if flat["data.random_crop"] > flat["data.image_size"]:
        raise UserError(f"data.random_crop is {flat['data.random_crop']}, more than data.image_size")
    for key, known in (
        ("task.name", ("sod", "dbd")),
        ("data.normalize", ("imagenet", "max-imagenet", "bgr255")),
        ("train.optimizer", ("adam", "sgd")),
        ("train.schedule", ("constant", "poly", "step")),
        ("train.freeze", ("", "encoder")),
        ("train.nonfinite", ("stop", "skip")),
        ("data.on_error", ("stop", "skip")),
    ):
        if flat[key] not in known:
            raise UserError(f"{key} is {flat[key]!r}; it is one of: {', '.join(known)}")
