"""The networks, by name: ``create_model("afiu", rngs=nnx.Rngs(0), channels=32)``."""

import inspect
from functools import cache

import jax
from flax import nnx

from afiu_jax.errors import UserError
from afiu_jax.initializers import NoKeys, materialise
from afiu_jax.networks.afiu import AFIU
from afiu_jax.networks.basnet import BASNet
from afiu_jax.networks.cpd import CPDVGG16, CPDRes50
from afiu_jax.networks.minet import MINetRes50, MINetVGG16
from afiu_jax.networks.prediction import Prediction
from afiu_jax.networks.srm import SRM
from afiu_jax.networks.sun import SUN
from afiu_jax.networks.u2net import U2Net, U2NetP

NETWORKS: dict[str, type[nnx.Module]] = {
    "afiu": AFIU,
    "basnet": BASNet,
    "cpd_res50": CPDRes50,
    "cpd_vgg16": CPDVGG16,
    "minet_res50": MINetRes50,
    "minet_vgg16": MINetVGG16,
    "srm": SRM,
    "sun": SUN,
    "u2net": U2Net,
    "u2netp": U2NetP,
}

__all__ = ["NETWORKS", "Prediction", "abstract_model", "create_model", "network_options"]


def create_model(name: str, *, rngs: nnx.Rngs | None = None, **options) -> nnx.Module:
    """Builds a network with initial weights, in seconds whatever its size.

    Args:
        name: a key of ``NETWORKS``.
        rngs: random streams; the ``params`` stream decides the weights. None means ``nnx.Rngs(0)``.
        **options: the network's own options, see ``network_options``.

    Returns:
        The network, in training mode. Traceable under ``nnx.eval_shape``; see ``abstract_model``.

    Raises:
        UserError: unknown name or option.
    """
    _require_options(name, options)
    options = _without_lists(options)
    key = rngs.params() if rngs is not None else jax.random.key(0)
    return materialise(lambda streams: NETWORKS[name](**options, rngs=streams), key)


def abstract_model(name: str, **options) -> nnx.Module:
    """A network of shapes and dtypes without arrays; arguments and errors as of ``create_model``."""
    return nnx.merge(*_abstract(name, **_without_lists(options)))


@cache  # what reads weights and what uses them both ask for it, and it takes a third of a second
def _abstract(name: str, **options) -> tuple[nnx.GraphDef, nnx.State]:
    _require_options(name, options)
    return nnx.split(nnx.eval_shape(lambda: NETWORKS[name](**options, rngs=NoKeys())))


def _require_options(name: str, options: dict[str, object]) -> None:
    known = network_options(name)
    if unknown := sorted(set(options) - set(known)):
        raise UserError(f"network {name} has no option {', '.join(unknown)}; it has: {', '.join(known)}")


def _without_lists(options: dict[str, object]) -> dict[str, object]:
    """Options as the networks take them: a configuration that went through JSON has lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


def network_options(name: str) -> dict[str, object]:
    """The options of a network and their defaults.

    Raises:
        UserError: unknown name.
    """
    if name not in NETWORKS:
        raise UserError(f"unknown network {name!r}; model.name is one of: {', '.join(sorted(NETWORKS))}")
    signature = inspect.signature(NETWORKS[name].__init__)
    return {
        key: parameter.default
        for key, parameter in signature.parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
