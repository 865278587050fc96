"""AFIU as a whole: parameters, shapes, names, refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY_OPTIONS
from flax import nnx

from afiu_jax import create_model
from afiu_jax.batch_norm import batch_norm
from afiu_jax.blocks.rsu import RSU
from afiu_jax.errors import UserError
from afiu_jax.initializers import materialise, plan
from afiu_jax.layers import conv, count_parameters
from afiu_jax.networks import abstract_model, network_options
from afiu_jax.networks.afiu import SMALL

# Parameters of the published modules, computed from their source by hand; see docs/design.md.
PARAMETERS = {
    "AIM1": 447_872,
    "AIM2": 903_104,
    "AIM3": 10_214_400,
    "AIM4": 40_482_560,
    "AIM5": 85_674_240,
    **{f"SIM{x}": 194_464 for x in range(1, 6)},
    **{f"fusion{x}": 36_992 for x in range(1, 6)},
    "D1": 138_816,
    "D2": 138_816 + 27_840,
    "head": 65,
}
# Height and width, and channels, of every stage for one 320x320 image.
STAGES = {
    **{f"E{x}": (side, c) for x, side, c in zip(range(1, 6), (160, 80, 40, 20, 10), (64, 256, 512, 1024, 2048))},  # noqa: B905
    **{f"{kind}{x}": (320 // 2**x, 64) for kind in ("AIM", "EC", "D") for x in range(1, 6)},
    "logits": (320, 1),
}


@pytest.fixture(scope="module")
def abstract():
    return abstract_model("afiu")


@pytest.fixture(scope="module")
def tiny():
    model = create_model("afiu", rngs=nnx.Rngs(1), **TINY_OPTIONS)
    model.eval()
    return model


def test_parameter_counts(abstract):
    assert count_parameters(abstract) == 163_295_329
    for name, count in PARAMETERS.items():
        assert count_parameters(getattr(abstract, name)) == count, name
    assert sum(count_parameters(getattr(abstract, f"E{x}")) for x in range(1, 6)) == 23_508_032


@pytest.mark.parametrize(
    ("heights", "mid", "count"),
    [((2, 2, 3, 4, 5), 32, 163_211_809), ((2, 3, 4, 5, 5), 16, 162_934_561), ((2, 2, 3, 4, 5), 16, 162_913_537)],
)
def test_parameter_counts_of_other_readings(heights, mid, count):
    assert count_parameters(abstract_model("afiu", rsu_heights=heights, rsu_mid=mid)) == count


def test_shape_of_every_stage(abstract):
    image = jax.ShapeDtypeStruct((2, 320, 320, 3), jnp.float32)
    stages = nnx.eval_shape(lambda model, x: model.stages(x), abstract, image)
    assert {name: (s.shape[1], s.shape[3]) for name, s in stages.items()} == STAGES
    assert all(s.shape[0] == 2 and s.shape[1] == s.shape[2] for s in stages.values())


def test_submodules_with_weights_stand_in_the_order_of_the_figure():
    model = create_model("afiu", **TINY_OPTIONS)
    names = [name for name, part in vars(model).items() if isinstance(part, nnx.Module) and count_parameters(part)]
    kinds = ("E", "AIM", "SIM", "fusion")
    assert names == [f"{k}{x}" for k in kinds for x in range(1, 6)] + [f"D{x}" for x in range(5, 0, -1)] + ["head"]


def test_small_has_the_same_graph(abstract):
    small = abstract_model("afiu", **SMALL)
    assert count_parameters(small) < 2_000_000
    assert {name for name in vars(small) if name[0] != "_"} == {name for name in vars(abstract) if name[0] != "_"}


def test_prediction_has_the_size_of_the_image(tiny):
    both = nnx.jit(lambda model, images: (model(images), model.stages(images)["logits"]))
    prediction, logits = both(tiny, jnp.ones((2, 64, 96, 3)))
    assert prediction.logits.shape == (2, 64, 96, 1)
    assert prediction.side_logits == ()
    assert jnp.isfinite(prediction.logits).all()
    np.testing.assert_array_equal(prediction.logits, logits)


NEAREST = {(100, 96): "96x96 or 128x96", (32, 64): "64x64", (31, 130): "64x128 or 64x160"}


@pytest.mark.parametrize(("size", "nearest"), NEAREST.items())
def test_illegal_sizes_name_the_nearest(tiny, size, nearest):
    h, w = size
    with pytest.raises(ValueError, match=rf"multiples of 32 and at least 64, not {h}x{w}; nearest: {nearest}"):
        tiny(jnp.ones((1, h, w, 3)))


def test_weights_follow_the_seed():
    first = lambda seed: create_model("afiu", rngs=nnx.Rngs(seed), **TINY_OPTIONS).E1.conv.kernel[...]  # noqa: E731
    np.testing.assert_array_equal(first(3), first(3))
    assert jnp.abs(first(3) - first(4)).max() > 0.01
    by_default = create_model("afiu", **TINY_OPTIONS).E1.conv.kernel[...]
    np.testing.assert_array_equal(by_default, create_model("afiu", **TINY_OPTIONS).E1.conv.kernel[...])


def test_direct_construction_draws_from_the_same_distributions():
    def build(rngs):
        return RSU(8, 8, 16, height=3, conv=partial(conv, rngs=rngs), norm=partial(batch_norm, rngs=rngs))

    quick, direct = materialise(plan(build), jax.random.key(0)), build(nnx.Rngs(0))
    pairs = zip(nnx.to_flat_state(nnx.state(quick)), nnx.to_flat_state(nnx.state(direct)), strict=True)
    for (path, a), (_, b) in pairs:
        assert a.shape == b.shape
        if path[-2] == "norm":
            np.testing.assert_array_equal(a[...], b[...])
        elif path[-1] == "kernel":
            np.testing.assert_allclose(a[...].std(), b[...].std(), rtol=0.1)


def test_it_can_be_built_while_shapes_are_traced(tiny):
    traced = nnx.eval_shape(lambda: create_model("afiu", **TINY_OPTIONS))
    shapes = lambda model: {path: leaf.shape for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param))}  # noqa: E731
    assert shapes(traced) == shapes(tiny)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(UserError, match=r"unknown network 'afi'; model.name is one of: .*afiu"):
        create_model("afi")
    with pytest.raises(UserError, match=r"no option depth; it has: .*depths"):
        create_model("afiu", depth=3)
    assert network_options("afiu")["rsu_heights"] == (2, 3, 4, 5, 5)
