"""The state of a run: everything that a step changes, as arrays."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import nnx

from afiu_jax.batch_norm import BatchNorm
from afiu_jax.convolution.choice import suit_platform
from afiu_jax.convolution.filtered import filter_kernels
from afiu_jax.convolution.mixed_precision import set_late_casts
from afiu_jax.normalisation import Way
from afiu_jax.training.finetuning import Frozen, nothing_frozen


@flax.struct.dataclass
class TrainState:
    """Arrays of a run between two steps.

    Attributes:
        step: number of steps done, int32. Not annotated so, as JAX puts shapes, layouts, … into such a tree, too.
        params: trainable weights, float32.
        batch_stats: running statistics of batch normalisation, float32.
        opt_state: state of the optimiser.
    """

    step: Any
    params: nnx.State
    batch_stats: nnx.State
    opt_state: optax.OptState


def create_state(model: nnx.Module, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step of a network. Traceable."""
    _, params, batch_stats, _ = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
    opt_state = jax.jit(optimizer.init)(params)  # as one program: hundreds of small ones take seconds
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, opt_state)


def abstract_state(model: nnx.Module, optimizer: optax.GradientTransformation) -> TrainState:
    """Shapes and dtypes of ``create_state``'s arrays, of a network that may be without any."""
    _, params, batch_stats, _ = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
    opt_state = jax.eval_shape(optimizer.init, params)
    return TrainState(jax.ShapeDtypeStruct((), jnp.int32), params, batch_stats, opt_state)


def graph_of(
    model: nnx.Module,
    *,
    training: bool,
    frozen: Frozen = nothing_frozen,
    norm_groups: int = 1,
    platform: str | None = None,
) -> nnx.GraphDef:
    """The network without its arrays, with batch normalisation set for training or for use.

    ``platform``: what it is for, ``cpu`` or ``gpu``, see ``suit_platform``; None: what JAX runs on.
    """
    suit_platform(model, platform, training=training)
    set_late_casts(model, training)
    if training:
        train_mode(model, frozen, norm_groups, way=_way_of_statistics(platform or jax.default_backend()))
    else:
        model.eval()
    return nnx.graphdef(model)


def graph_in_use(model: nnx.Module, params: nnx.State) -> tuple[nnx.GraphDef, nnx.State]:
    """The network without its arrays, set for maps of many images; and its state beside weights and statistics.

    That is its wide kernels, filtered once, see ``filtered.filter_kernels``; empty where nothing is filtered.

    Args:
        model: the network, abstract or not, which is set so, in place.
        params: its weights.
    """
    graph_of(model, training=False)
    filtered = filter_kernels(model, params)
    return nnx.graphdef(model), filtered


def train_mode(model: nnx.Module, frozen: Frozen, norm_groups: int = 1, *, way: Way = "two passes") -> None:
    """Sets a network for training, in place, and what is frozen of it for use: there statistics stay as they are.

    ``norm_groups`` are the parts of a batch with statistics of their own, and ``way`` says how these are computed, see
    ``normalisation``.
    """
    model.train()
    for _, module in nnx.iter_modules(model):
        if isinstance(module, BatchNorm):
            module.groups, module.way = norm_groups, way
    for path, module in nnx.iter_modules(model):  # those in lists, too
        if path and frozen(str(path[0])):
            module.eval()


def _way_of_statistics(platform: str) -> Way:
    if platform == "cpu" and jax.device_count() == 1:
        return "loops"
    return "one pass" if platform == "gpu" else "two passes"


def flatten(tree) -> dict[str, jax.Array]:
    """Arrays of a tree by dotted path, as checkpoints name them: ``E1.conv.kernel``."""
    if isinstance(tree, nnx.State):
        return {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(tree)}
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def unflatten(flat: dict[str, jax.Array], like):
    """The reverse of ``flatten``: a tree like ``like`` with the arrays of ``flat``."""
    names = list(flatten(like))
    return jax.tree.unflatten(jax.tree.structure(like), [flat[name] for name in names])
