"""SUN: its counts, its published keys, its recorded outputs."""

import jax
import jax.numpy as jnp
import pytest
from fitting import loss_ratio
from flax import nnx
from published import Recording, fill_model, recorded_shapes

from afiu_jax import create_model
from afiu_jax.interop.layout import published_shapes
from afiu_jax.layers import Kept, count_parameters
from afiu_jax.networks import abstract_model

TAPS = {"aspp": "b4", "pdcmblock0": "p0", "pdcmblock4": "p4", "cam_conv1_3": "D1"}


def test_parameters_and_published_keys():
    abstract = abstract_model("sun")
    assert count_parameters(abstract) == 115_577_839
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(abstract, Kept))) == 2_136_110
    assert published_shapes(abstract, "sun") == recorded_shapes("SUN")


@pytest.fixture(scope="module")
def filled():
    recording = Recording("SUN")
    model = create_model("sun")
    fill_model(model, "sun")
    graph, state = nnx.split(model)
    stages = jax.jit(lambda state, image: nnx.merge(graph, state).stages(image))
    return recording, lambda image: stages(state, image)


@pytest.mark.parametrize("size", ["s96x96", "s93x78"])
def test_recorded_outputs(filled, size):
    recording, stages = filled
    found = stages(recording[f"{size}.input"])
    keys = recording.keys(size)
    assert len(keys) >= 6
    for key in keys:
        kind, name = key.split(".")
        ours = {"fuse": "logits"}.get(name, name.replace("p", "side")) if kind == "logit" else TAPS.get(name, name)
        error = recording.error(f"{size}.{key}", found[ours])
        assert error < 1e-4, f"{size}.{key}: {error:.1e} of the largest value"


def test_maps_are_always_256():
    model = abstract_model("sun")
    for h, w in ((256, 256), (13, 32)):
        prediction = nnx.eval_shape(lambda m, x: m(x), model, jnp.zeros((2, h, w, 3)))
        assert [x.shape for x in (prediction.logits, *prediction.side_logits)] == [(2, 256, 256, 1)] * 6


@pytest.mark.parametrize("size", [(12, 16), (32, 33)])
def test_sizes_that_do_not_double(size):
    model = abstract_model("sun")
    with pytest.raises(ValueError, match="sun takes"):
        nnx.eval_shape(lambda m, x: m(x), model, jnp.zeros((1, *size, 3)))


@pytest.mark.slow
def test_the_small_network_learns():
    assert loss_ratio("sun", batch_size=2) < 0.5
