"""Maps side by side: a sum of padded maps is the concatenation, and is what a CPU's maps are computed with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from two_rsus import TwoRSUs

from afiu_jax import create_model
from afiu_jax.side_by_side import SideBySide, concatenate, sum_of_padded
from afiu_jax.training.state import graph_of


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("channels", [(3,), (2, 3), (1, 4, 2)])
def test_a_sum_of_padded_maps_is_their_concatenation(channels, dtype):
    random = np.random.default_rng(0)
    maps = [jnp.asarray(random.standard_normal((2, 4, 5, c)), dtype) for c in channels]
    # What is not finite stays in its channel.
    maps[0] = maps[0].at[0, 0, 0, 0].set(jnp.nan).at[0, 1, 0, 0].set(jnp.inf)
    found = sum_of_padded(maps)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.astype(jnp.float32), np.concatenate(maps, -1).astype(np.float32))


@pytest.mark.parametrize(
    ("platform", "training", "padded"), [("cpu", False, True), ("cpu", True, False), ("gpu", False, False)]
)
def test_a_cpus_maps_alone_are_padded(platform, training, padded):
    model = create_model("afiu", width=4, depths=(1, 1, 1, 1), channels=8, rngs=nnx.Rngs(0))
    graph_of(model, training=not training, platform=platform)  # whatever it was set to before
    graph_of(model, training=training, platform=platform)
    ways = {module.concatenate for _, module in nnx.iter_modules(model) if isinstance(module, SideBySide)}
    assert ways == {sum_of_padded if padded else concatenate}


def test_skip_connections_of_a_cpus_maps_are_not_concatenated():
    model = TwoRSUs(rngs=nnx.Rngs(0))
    images = jnp.zeros((1, 32, 32, 3))

    def program(**options) -> str:
        graph = graph_of(model, training=False, **options)
        return str(jax.make_jaxpr(lambda x: nnx.merge(graph, nnx.state(model))(x).logits)(images))

    skips = "f32[1,32,32,32] = concatenate[dimension=3]"
    assert skips in program(platform="gpu")
    assert skips not in program(platform="cpu")
