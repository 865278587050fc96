"""The statistics of batch normalisations, estimated anew for the weights of one moment.

Training keeps an average over the last dozen batches, each under weights of its own; with small batches that average
is noisy, and the maps of a run with it. Estimating it over more batches under the final weights is Precise BN (Wu and
Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3).
"""

import itertools
from collections.abc import Iterable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from afiu_jax.batch_norm import BatchNorm
from afiu_jax.dropout import dropout_key
from afiu_jax.moments import pool
from afiu_jax.training.finetuning import Frozen, nothing_frozen
from afiu_jax.training.state import TrainState, flatten, train_mode, unflatten
from afiu_jax.training.step import DETERMINISTIC, float32_products


class Statistics:
    """Estimates a network's batch statistics over batches of images.

    Args:
        model: the network; may be without arrays, and is set for training.
        frozen: what keeps its statistics.
        deterministic: as of ``make_train_step``.
        tf32: likewise.
    """

    def __init__(
        self, model: nnx.Module, frozen: Frozen = nothing_frozen, deterministic: bool = False, tf32: bool = True
    ):
        train_mode(model, frozen)
        self._norms = []
        for path, module in nnx.iter_modules(model):
            if isinstance(module, BatchNorm):
                module.momentum = 0.0  # what a normalisation then keeps is the last batch's statistics
                self._norms.append(".".join(map(str, path)))
        graph = nnx.graphdef(model)

        @partial(jax.jit, compiler_options=DETERMINISTIC if deterministic else None)
        def of_batch(state: TrainState, images: Float[Array, "b h w 3"], index: Int[Array, ""]) -> nnx.State:
            network = nnx.merge(graph, state.params, state.batch_stats, copy=True)
            # Every batch drops other channels: what one choice does to the statistics has to average out as well.
            with dropout_key(jax.random.fold_in(jax.random.key(0), index)), float32_products(tf32=tf32):
                network(images)
            return nnx.state(network, nnx.BatchStat)

        self._of_batch = of_batch

    def __call__(self, state: TrainState, batches: Iterable[Float[Array, "b h w 3"]]) -> TrainState:
        """The state with the statistics of all of these batches; frozen normalisations keep theirs."""
        union, _ = pool(map(self._by_norm, map(partial(self._of_batch, state), batches, itertools.count())))
        flat = flatten(state.batch_stats)
        for norm, moments in union.items():
            for leaf, value in zip(("mean", "var"), moments, strict=True):
                name, value = f"{norm}.{leaf}", np.float32(value)
                # Putting an array on devices of other processes takes this call.
                flat[name] = jax.make_array_from_callback(value.shape, flat[name].sharding, value.__getitem__)
        return state.replace(batch_stats=unflatten(flat, state.batch_stats))

    def _by_norm(self, batch_stats: nnx.State) -> dict[str, Float[Array, "2 c"]]:
        flat = flatten(batch_stats)
        own = [norm for norm in self._norms if f"{norm}.mean" in flat and f"{norm}.var" in flat]  # not another's
        return {norm: jnp.stack([flat[f"{norm}.mean"], flat[f"{norm}.var"]]) for norm in own}
