"""The networks, by name: ``create_model("afiu", rngs=nnx.Rngs(0), channels=32)``."""

import inspect
from functools import cache

import jax
from flax import nnx

from afiu_jax.errors import UserError
from afiu_jax.initializers import Keys, Plan, materialise, plan, strongly_typed
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
    """Builds a network with initial weights, in seconds whatever its size if its layers are this package's.

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
    planned = _plan(NETWORKS[name], name, **options)
    if not planned.declared:
        model = NETWORKS[name](**options, rngs=rngs or nnx.Rngs(0))
        nnx.update(model, strongly_typed(nnx.state(model)))
        return model
    key = rngs.params() if rngs is not None else jax.random.key(0)
    if isinstance(key, jax.core.Tracer):  # layer by layer, with JAX
        return NETWORKS[name](**options, rngs=Keys(key))
    return materialise(planned, key)


def abstract_model(name: str, **options) -> nnx.Module:
    """A network of shapes and dtypes without arrays; arguments and errors as of ``create_model``."""
    planned = _plan(NETWORKS.get(name), name, **_without_lists(options))
    return nnx.merge(planned.graph, planned.state)


@cache  # a program asks for it more than once, and it takes half a second
def _plan(network: type[nnx.Module] | None, name: str, /, **options) -> Plan:
    _require_options(name, options)
    return plan(lambda streams: network(**options, rngs=streams))


def _require_options(name: str, options: dict[str, object]) -> None:
    known = network_options(name)
    if unknown := sorted(set(options) - set(known)):
        raise UserError(f"network {name} has no option {', '.join(unknown)}; it has: {', '.join(known)}")


def _without_lists(options: dict[str, object]) -> dict[str, object]:
    """Options as the networks take them: a configuration that went through JSON has lists."""
    return {key: _as_tuples(value) for key, value in options.items()}


def _as_tuples(value: object) -> object:
    return tuple(map(_as_tuples, value)) if isinstance(value, (list, tuple)) else value


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
        if parameter.default is not inspect.Parameter.empty and key != "rngs"
    }
