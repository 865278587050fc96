"""SRM: its counts, its published names, its recorded outputs, its frozen norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fitting import loss_ratio
from flax import nnx
from published import Recording, channels_last, field, fill_model, recorded_shapes

from afiu_jax import create_model
from afiu_jax.interop.layout import published_shapes
from afiu_jax.layers import count_parameters
from afiu_jax.networks import NETWORKS, abstract_model

OURS = {
    "tap.layer_512_3_sum": "features1",  # Caffe normalises it in place
    "logit2.stage1": "scores1",
    "tap.layer_512_1_bn1-stage2": "features2",
    "tap.conv5_3_concat": "pyramid2",
    "tap.layer_512_1_bn1_compress-stage2": "compressed2",
    "logit2.stage2": "scores2",
    "tap.layer_256_1_bn1-stage2": "features3",
    "tap.conv3_4_concat": "pyramid3",
    "tap.layer_256_1_bn1_compress-stage3": "compressed3",
    "logit2.stage3": "scores3",
}


@pytest.fixture(scope="module")
def abstract():
    return abstract_model("srm")


def test_parameters_and_published_names(abstract):
    assert count_parameters(abstract) == 53_178_526
    assert published_shapes(abstract, "srm") == recorded_shapes("SRM")


@pytest.fixture(scope="module")
def original():
    """SRM with the recorded weights."""
    model = create_model("srm")
    fill_model(model, "srm")
    return model


@pytest.mark.parametrize("side", [(97, 129), (353, 353)])
def test_numbers_of_the_original(original, side):
    recording, size = Recording("SRM"), "s{}x{}".format(*side)
    image = channels_last(field((1, 3, *side)))  # the recording holds a part of the larger one
    stages = jax.jit(lambda model, image: model.stages(image))(original, image)
    errors = {key: recording.error(f"{size}.{key}", stages[ours]) for key, ours in OURS.items()}
    assert {*errors, "logit2.final"} == set(recording.keys(size))
    assert max(errors.values()) < 1e-4, errors

    theirs = recording[f"{size}.logit2.final"]
    theirs = theirs[..., 1:] - theirs[..., :1]
    every = 4 if theirs.shape[1:3] != side else 1
    assert jnp.abs(stages["logits"][:, ::every, ::every] - theirs).max() < 1e-4 * jnp.abs(theirs).max()


@pytest.mark.parametrize("size", [(33, 65), (97, 129)])
def test_maps_have_the_images_size(abstract, size):
    image = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    final, sides = nnx.eval_shape(lambda model, x: model(x), abstract, image)
    assert [x.shape for x in (final, *sides)] == [(2, *size, 1)] * 3


@pytest.mark.parametrize("size", [(32, 65), (97, 1), (96, 128)])
def test_sizes_that_do_not_halve(abstract, size):
    with pytest.raises(ValueError, match=r"srm takes .*nearest: "):
        nnx.eval_shape(lambda model, x: model(x), abstract, jax.ShapeDtypeStruct((1, *size, 3), jnp.float32))


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_norms_keep_their_statistics(frozen):
    model = create_model("srm", **NETWORKS["srm"].presets["small"], frozen_norm=frozen)
    before = jax.tree.map(np.asarray, nnx.state(model, nnx.BatchStat))
    image = channels_last(field((2, 3, 33, 33)))
    after = jax.jit(lambda model, x: (model(x), nnx.state(model, nnx.BatchStat))[1])(model, image)
    same = [np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)]
    assert all(same) if frozen else not any(same)


@pytest.mark.slow
def test_the_small_network_learns():
    assert loss_ratio("srm", side=65) < 0.5
