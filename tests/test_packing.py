"""Vectors as one array: the same optimiser, whatever it does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import tiny_config
from flax import nnx

from afiu_jax.networks import create_model
from afiu_jax.training.finetuning import l2_sp, train_all_but
from afiu_jax.training.optimizer import create_optimizer
from afiu_jax.training.packing import VECTORS, on_packed, pack, unpack

TREE = {
    "E1": {"kernel": jnp.arange(12.0).reshape(3, 4), "bias": jnp.arange(4.0)},
    "D1": {"scale": -jnp.arange(3.0), "gain": jnp.float32(7)},
}


def test_packing_and_back():
    packed = pack(TREE)
    assert {name: leaf.shape for name, leaf in packed.items()} == {"E1.kernel": (3, 4), "D1.gain": (), VECTORS: (7,)}
    np.testing.assert_array_equal(packed[VECTORS], [0, -1, -2, 0, 1, 2, 3])  # a dictionary's leaves go by name
    jax.tree.map(np.testing.assert_array_equal, unpack(packed, TREE), TREE)
    assert pack({"kernel": TREE["E1"]["kernel"]}).keys() == {"kernel"}


def test_a_networks_vectors_are_most_of_its_arrays_and_few_of_its_numbers():
    params = nnx.state(create_model("u2netp"), nnx.Param)
    packed = pack(params)
    assert (len(jax.tree.leaves(params)), len(packed)) == (4 * 112 + 2 * 7, 119 + 1)
    jax.tree.map(np.testing.assert_array_equal, unpack(packed, params), params)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.adam(1e-2),
        optax.chain(optax.clip_by_global_norm(0.5), optax.add_decayed_weights(0.1), optax.trace(0.9)),
        optax.chain(l2_sp(0.1), optax.scale_by_adam(), optax.scale_by_learning_rate(lambda step: 0.1 / (1 + step))),
    ],
    ids=["adam", "clip-decay-momentum", "l2sp-schedule"],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_an_optimizer_moves_packed_weights_as_it_moves_others(optimizer, frozen):
    found = []
    for chosen in (optimizer, on_packed(optimizer)):
        if frozen:
            chosen = train_all_but(lambda module: module == "E1", chosen)
        params, state = TREE, chosen.init(TREE)
        for step in range(3):
            gradients = jax.tree.map(lambda p, k=step: jnp.cos(p * (k + 1)), params)
            updates, state = chosen.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
        found.append(params)
    plain, packed = found
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), packed, plain)
    assert jax.tree.all(jax.tree.map(np.array_equal, packed["E1"], TREE["E1"])) == frozen


def test_weight_decay_of_kernels_leaves_packed_vectors_alone():
    config = tiny_config(train__weight_decay=0.1, train__decay_kernels_only=True, train__optimizer="sgd")
    optimizer = create_optimizer(config.to_dict())
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, TREE), optimizer.init(TREE), TREE)
    assert np.abs(updates["E1"]["kernel"]).max() > 0
    assert not np.any(updates["E1"]["bias"]) and not np.any(updates["D1"]["scale"])
