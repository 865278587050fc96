"""One step of training, jitted: a pure function of state and batch."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Sharding
from jaxtyping import Array, Float

from afiu_jax.batch_norm import SUM
from afiu_jax.convolution.remat import KEPT, is_repeatable
from afiu_jax.dropout import dropout_key
from afiu_jax.errors import UserError
from afiu_jax.networks import Prediction
from afiu_jax.normalisation import STATISTICS
from afiu_jax.training.finetuning import Frozen, nothing_frozen, stop_gradients
from afiu_jax.training.layouts import own_layouts
from afiu_jax.training.packing import pack
from afiu_jax.training.state import TrainState

Loss = Callable[[Prediction, Array], Array]
Images = Float[Array, "b h w 3"]
Maps = Float[Array, "b h w 1"]


class Report(NamedTuple):
    """What a step says of itself.

    Attributes:
        loss: of the weights before the step.
        gradient_norm: Euclidean norm of the loss's whole gradient; not finite if one of its entries is not.
    """

    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]


TrainStep = Callable[[TrainState, Images, Maps], tuple[TrainState, Report]]


def make_train_step(
    graph: nnx.GraphDef,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    seed: int = 0,
    frozen: Frozen = nothing_frozen,
    accumulate: int = 1,
    skip_nonfinite: bool = False,
    remat: bool = False,
    deterministic: bool = False,
    layouts: bool = False,
    place: Sharding | None = None,
    tf32: bool = True,
    platform: str | None = None,
) -> TrainStep:
    """``(state, images, masks) -> (next state, report)``; the memory of the old state is given to the new one.

    ``seed`` and the number of the step decide what dropout drops; of what is ``frozen`` no gradient is computed.
    With ``skip_nonfinite``, a step whose loss or gradient is not finite changes nothing but the number of the step.

    The gradient is the mean of those of ``accumulate`` equal parts of the batch, computed one after the other in the
    memory of one. For a loss that is a mean over images it is the whole batch's. Two things differ from the whole
    batch: batch normalisation sees one part at a time, and dropout draws anew for each.

    With ``remat``, the forward pass keeps the results of convolutions, or their sum where that is normalised, and a
    batch's statistics. What lies between (normalising, ReLU, resizing, tiles) and cheap convolutions
    (``remat.is_repeatable``) are computed again for the gradient: less memory for more time, with the same result.
    With ``deterministic``, a GPU uses algorithms that give the same bits every time; a CPU always does.
    With ``layouts``, the compiler chooses how the state lies in memory: call the step through ``in_own_layouts``, and
    say in ``place`` where the state lies if that is on several devices.
    Without ``tf32``, see ``float32_products``.
    ``platform``: what the step is compiled for, ``cpu`` or ``gpu``; None: what JAX runs on. With options of its
    compiler, as on a CPU, the step cannot be part of another jitted function; its ``__wrapped__`` can.
    """
    platform = platform or jax.default_backend()

    def gradients_of(params, batch_stats, key, images, masks):
        def loss_of(params):
            # A copy, since batch normalisation writes its statistics into the network's variables.
            model = nnx.merge(graph, stop_gradients(params, frozen), batch_stats, copy=True)
            with dropout_key(key):
                value = loss(_prediction_of(model, images), masks)
            if jnp.shape(value):
                raise UserError(f"the loss gives an array of shape {jnp.shape(value)}, not a number: take its mean")
            return value, nnx.state(model, nnx.BatchStat)

        if remat:
            loss_of = jax.checkpoint(loss_of, policy=_POLICY)
        (value, batch_stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        return batch_stats, (value, gradients)

    def mean_of_parts(params, batch_stats, key, images, masks):
        def add_part(carry, part):
            batch_stats, total = carry
            index, *part = part
            batch_stats, found = gradients_of(params, batch_stats, jax.random.fold_in(key, index), *part)
            return (batch_stats, jax.tree.map(jnp.add, total, found)), None

        nothing = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
        parts = (jnp.arange(accumulate), *(_parts(array, accumulate) for array in (images, masks)))
        (batch_stats, total), _ = jax.lax.scan(add_part, (batch_stats, nothing), parts)
        return batch_stats, jax.tree.map(lambda x: x / accumulate, total)

    def train_step(state: TrainState, images: Images, masks: Maps) -> tuple[TrainState, Report]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        compute = gradients_of if accumulate == 1 else mean_of_parts
        with float32_products(tf32=tf32):
            batch_stats, (value, gradients) = compute(state.params, state.batch_stats, key, images, masks)
        if platform == "cpu":
            report = Report(value, _norm_on_cpu(gradients))
            # All gradients before the first new weight: else kernels are copied, for gradients that may need them yet.
            gradients = jax.lax.optimization_barrier(gradients)
        else:
            report = Report(value, optax.tree.norm(pack(gradients)))
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        following = TrainState(state.step + 1, params, batch_stats, opt_state)
        if skip_nonfinite:
            good = jnp.isfinite(report.loss) & jnp.isfinite(report.gradient_norm)
            unchanged = state.replace(step=state.step + 1)
            following = jax.tree.map(partial(jnp.where, good), following, unchanged)
        return following, report

    return jit_step(train_step, deterministic=deterministic, layouts=layouts, place=place, platform=platform)


def _prediction_of(model: nnx.Module, images: Images) -> Prediction:
    found = model(images)
    if not isinstance(found, Prediction):
        raise UserError(
            f"{type(model).__name__} does not return an afiu_jax.networks.Prediction: make one of its logits"
        )
    for logits in (found.logits, *found.side_logits):
        if logits.ndim != 4 or logits.shape[0] != images.shape[0] or logits.shape[-1] != 1:
            raise UserError(
                f"{type(model).__name__} returns logits of shape {logits.shape} for {images.shape[0]} images: they "
                "must be [b, h, w, 1]"
            )
    return found


def jit_step(
    step: TrainStep,
    *,
    deterministic: bool = False,
    layouts: bool = False,
    place: Sharding | None = None,
    platform: str | None = None,
) -> TrainStep:
    """A step, jitted as one of training is: the memory of the old state is given to the new one.

    The flags are as of ``make_train_step``.
    """
    options = compiler_options(deterministic=deterministic, platform=platform)
    return jax.jit(step, donate_argnums=0, compiler_options=options, **(own_layouts(place) if layouts else {}))


def float32_products(*, tf32: bool) -> AbstractContextManager:
    """While a function is traced: its convolutions and products of float32 have all bits, unless ``tf32``.

    With it they are what JAX's settings say: on GPUs from Ampere on TF32, which keeps 10 of 23 bits of the mantissa.
    """
    return nullcontext() if tf32 else jax.default_matmul_precision("highest")


def compiler_options(*, deterministic: bool, platform: str | None = None) -> dict[str, bool | str]:
    """What ``jit_step`` tells the compiler; the flags are as of ``make_train_step``."""
    return _TRAIN_OPTIONS.get(platform or jax.default_backend(), {}) | (DETERMINISTIC if deterministic else {})


def _norm_on_cpu(gradients: nnx.State) -> Float[Array, ""]:
    """Their Euclidean norm, of values that nothing else squares: else XLA stores the squares, for Adam.

    Large arrays are summed by channels, since XLA would sum a whole one in blocks first, in another pass; small ones
    end to end, since every sum takes a library milliseconds to prepare.
    """
    leaves = list(pack(gradients).values())
    large = [leaf for leaf in leaves if leaf.ndim > 1 and leaf.size >= _LARGE]
    small = [leaf.reshape(-1) for leaf in leaves if leaf.ndim < 2 or leaf.size < _LARGE]
    sums = [jnp.square(leaf).sum(tuple(range(leaf.ndim - 1))) for leaf in large]
    if small:
        sums.append(jnp.square(jnp.concatenate(small)).sum(keepdims=True))
    return jnp.sqrt(jnp.concatenate(sums).sum())


_LARGE = 2**16
"""Numbers from which an array is summed by itself; smaller ones are copied to be summed together."""

DETERMINISTIC = {"xla_gpu_deterministic_ops": True}
"""Compiler's options for programs of a run that is to have the same bits every time."""

BARRIERS_STAY = {"xla_disable_hlo_passes": "cse_barrier_expander"}
"""A CPU's compiler would drop barriers before it fuses operations, and so fuse across them."""

_TRAIN_OPTIONS = {"cpu": BARRIERS_STAY}


def _is_kept(primitive, *operands, **_) -> bool:
    """What ``jax.checkpoint`` asks of every operation: whether to keep its result."""
    return primitive is jax.lax.conv_general_dilated_p and not is_repeatable(operands[1].shape)


# Of convolutions whose sum is normalised, as AIM and SIM have them, the sum alone is kept: nothing needs its parts.
# Statistics are two numbers of a channel, and cost a look at every pixel.
_POLICY = jax.checkpoint_policies.save_from_both_policies(
    _is_kept, jax.checkpoint_policies.save_only_these_names(SUM, STATISTICS, KEPT)
)


def _parts(array: Float[Array, "b ..."], count: int) -> Float[Array, "{count} _ ..."]:
    """Equal parts of a batch, each with as many rows of every device as of any other, so that no row moves."""
    return jnp.swapaxes(array.reshape(-1, count, *array.shape[1:]), 0, 1)
