"""BASNet: parameters, names, refusals, and the numbers of its published graph."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from basnet_reference import basnet
from fitting import loss_ratio
from flax import nnx
from published import channels_last, field, fill, fill_model, recorded_shapes

from afiu_jax import create_model
from afiu_jax.interop.layout import published_shapes
from afiu_jax.layers import count_parameters
from afiu_jax.networks import abstract_model
from afiu_jax.networks.basnet import SMALL

ORDER = ["logits", *(f"side{x}" for x in range(1, 7)), "side_bridge"]


@pytest.fixture(scope="module")
def abstract():
    return abstract_model("basnet")


def test_parameter_counts(abstract):
    assert count_parameters(abstract) == 87_060_360
    assert count_parameters(abstract.refine) == 482_177


def test_small_has_the_same_modules(abstract):
    small = abstract_model("basnet", **SMALL)
    assert 200_000 < count_parameters(small) < 2_000_000
    assert vars(small).keys() == vars(abstract).keys()


def test_published_names(abstract):
    assert published_shapes(abstract, "basnet") == recorded_shapes("BASNet")


@pytest.mark.parametrize("size", [(32, 32), (96, 224)])
def test_shapes(abstract, size):
    image = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    stages = nnx.eval_shape(lambda model, x: model.stages(x), abstract, image)
    assert {stages[name].shape for name in ORDER} == {(2, *size, 1)}
    for part, channels in (("encoder", (64, 128, 256, 512, 512, 512)), ("decoder", (64, 64, 128, 256, 512, 512))):
        sizes = [(2, size[0] // 2**i, size[1] // 2**i, c) for i, c in enumerate(channels)]
        assert [stages[f"{part}{x}"].shape for x in range(1, 7)] == sizes


def test_illegal_sizes_name_the_nearest(abstract):
    with pytest.raises(ValueError, match=r"basnet takes .*multiples of 32.*, not 100x96; nearest: 96x96 or 128x96"):
        nnx.eval_shape(lambda model, x: model(x), abstract, jax.ShapeDtypeStruct((1, 100, 96, 3), jnp.float32))


def test_initial_weights():
    """He's for what was ResNet-34, within ±1/sqrt(fan_in) for the rest."""
    model = create_model("basnet", width=16, depths=(1, 1, 1, 1, 1, 1))
    he, default = (getattr(model, f"encoder{x}").blocks[0].conv2.kernel[...] for x in (4, 5))
    assert he.shape == default.shape == (3, 3, 128, 128)
    np.testing.assert_allclose(he.std(), (2 / (9 * 128)) ** 0.5, rtol=0.02)
    assert jnp.abs(default).max() <= (9 * 128) ** -0.5 < jnp.abs(he).max()


def test_numbers_of_the_published_graph(abstract):
    """Every map within 1e-5 of its largest value."""
    image = field((1, 3, 64, 96))
    theirs = basnet({key: fill(key, shape) for key, shape in published_shapes(abstract, "basnet").items()}, image)
    model = create_model("basnet")
    fill_model(model, "basnet")
    prediction = jax.jit(lambda model, image: model(image))(model, channels_last(image))
    for original, ours in zip(theirs, (prediction.logits, *prediction.side_logits), strict=True):
        np.testing.assert_allclose(ours.transpose(0, 3, 1, 2), original, rtol=0, atol=1e-5 * np.abs(original).max())


@pytest.mark.slow
def test_small_learns():
    # At 64 pixels the deepest side maps, 2x2 enlarged, could not follow a mask's structure.
    assert loss_ratio("basnet", side=96, batch_size=2) < 0.5
