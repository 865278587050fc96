"""How a network comes to defocus blur: each strategy is where its weights start and what its configuration changes.

To try another one, add a line to ``STRATEGIES``, or let a study's configuration declare it::

    config.strategies["sod-slow"] = strategy("sod", "SOD prior, a tenth of the rate", train={"learning_rate": 1e-6})
    config.starts = (*config.starts, "sod-slow")
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from afiu_jax.errors import UserError

Origin = Literal["random", "backbone", "sod", "weights"]
"""Where weights come from: nowhere, ImageNet's for the backbone, the study's own SOD run of the same network and seed,
or a file or run that the study's configuration names."""

BASELINE = "scratch"
"""The strategy that all others are compared with."""


@dataclass(frozen=True)
class Strategy:
    """A way to train on defocus blur.

    Attributes:
        origin: where the weights come from.
        label: in tables.
        overrides: what changes in the configuration of the run, as nested keys.
    """

    origin: Origin
    label: str
    overrides: Mapping[str, Mapping] = field(default_factory=dict)


def strategy(origin: Origin, label: str, **overrides: Mapping) -> dict:
    """A strategy as a study's configuration holds it."""
    return {"origin": origin, "label": label, "overrides": overrides}


STRATEGIES: Mapping[str, Strategy] = {
    BASELINE: Strategy("random", "from scratch"),
    "imagenet": Strategy("backbone", "ImageNet backbone"),
    "sod": Strategy("sod", "SOD prior"),
    "sod-frozen-encoder": Strategy("sod", "SOD prior, encoder frozen", {"train": {"freeze": "encoder"}}),
    "sod-layerwise-lr": Strategy("sod", "SOD prior, layer-wise rates", {"train": {"layerwise_decay": 0.7}}),
    "sod-l2sp": Strategy("sod", "SOD prior, L²-SP", {"train": {"l2sp": 0.01}}),
    "sod-focus-positive": Strategy("sod", "SOD prior, 1 = in focus", {"task": {"positive": "focus"}}),
    "published": Strategy("weights", "published SOD weights"),
}
"""The strategies that every study knows, by name.

``sod`` is the paper's (section 3.1): every weight of the SOD run, then all of them trained alike. Its last section asks
for others: the encoder kept as it is, its levels trained the slower the nearer they are to the image, the weights
pulled back to where they began (``training/finetuning.py``), and the target as what is in focus, so that the prior
keeps its sign; like all others, this one is scored with 1 = blurred.
"""


def read_strategies(declared: Mapping[str, Mapping]) -> dict[str, Strategy]:
    """The known strategies and those that a configuration declares; a declared one replaces its namesake.

    Raises:
        UserError: a declaration that is none.
    """
    found = dict(STRATEGIES)
    for name, fields in declared.items():
        if set(fields) != {"origin", "label", "overrides"} or fields["origin"] not in get_args(Origin):
            raise UserError(
                f"strategies.{name} is {dict(fields)}; it has an origin ({', '.join(get_args(Origin))}), a label and "
                "overrides: see afiu_jax/study/strategies.py"
            )
        found[name] = Strategy(fields["origin"], fields["label"], fields["overrides"])
    return found
