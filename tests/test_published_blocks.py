"""Our blocks give the numbers of the original ones: within 1e-4 of each array's largest absolute value.

A wrong padding, epsilon or corner alignment shows as 4e-3 to 11.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from one_program import outputs
from published import Recording, fill, load_interaction, load_resnet, load_rsu

from afiu_jax.batch_norm import batch_norm
from afiu_jax.blocks.aim import AIM, neighbours
from afiu_jax.blocks.resnet import level_channels, resnet_levels, run_levels
from afiu_jax.blocks.rsu import RSU
from afiu_jax.blocks.sim import SIM
from afiu_jax.initializers import materialise, plan
from afiu_jax.layers import conv
from afiu_jax.pooling import max_pool_ceil

PUBLISHED = np.load(Path(__file__).parent / "fixtures" / "published_blocks.npz")


def build(block, *args, **options):
    def construct(rngs):
        factories = {"conv": partial(conv, rngs=rngs), "norm": partial(batch_norm, rngs=rngs)}
        return block(*args, **options, **factories)

    return construct


def channels_last(name: str) -> jnp.ndarray:
    return jnp.asarray(PUBLISHED[name].transpose(0, 2, 3, 1))


def assert_published(ours: jnp.ndarray, name: str) -> None:
    theirs = channels_last(name)
    ours = ours[..., :: int(PUBLISHED[f"{name}.channels"])]
    assert ours.shape == theirs.shape
    error = float(jnp.abs(ours - theirs).max() / jnp.abs(theirs).max())
    assert error < 1e-4, f"{name}: {error:.2e} of the largest value"


@pytest.fixture(scope="module")
def resnet():
    class Levels(nnx.Module):
        def __init__(self, rngs):
            self.levels = nnx.List(build(resnet_levels)(rngs))

    levels = tuple(materialise(plan(Levels), jax.random.key(0)).levels)
    load_resnet(levels)
    return levels


def test_the_weight_rule_gives_its_spot_values():
    kernel = fill("stage1.rebnconvin.conv_s1.weight", (64, 3, 3, 3))
    np.testing.assert_allclose(kernel.ravel()[:3], [0.070871517, -0.28666717, -0.47750059], rtol=1e-6)
    np.testing.assert_allclose(kernel.sum(dtype=np.float64), 8.6439984, rtol=1e-6)
    variance = fill("div_2.1.running_var", (64,))
    np.testing.assert_allclose(variance.sum(dtype=np.float64), 68.503442, rtol=1e-6)


def test_resnet50_levels(resnet):
    features = outputs(run_levels, resnet, channels_last("ResNet50_levels.input"))
    for i, feature in enumerate(features, start=1):
        assert_published(feature, f"ResNet50_levels.feat.E{i}")


@pytest.mark.parametrize("size", ["s96x96", "s70x102"])
def test_resnet50_levels_at_even_and_odd_sizes(resnet, size):
    """The whole recording, which has sides that do not halve."""
    recording = Recording("ResNet50_levels")
    features = outputs(run_levels, resnet, recording[f"{size}.input"])
    ours = {f"feat.E{x}": feature for x, feature in enumerate(features, start=1)}
    assert ours.keys() == set(recording.keys(size))
    errors = {key: recording.error(f"{size}.{key}", feature) for key, feature in ours.items()}
    assert max(errors.values()) < 1e-4, errors


@pytest.fixture(scope="module")
def minet_features(resnet):
    return outputs(run_levels, resnet, channels_last("MINet_Res50.input"))


@pytest.mark.parametrize("level", range(5))
def test_aim_and_deepest_sim(minet_features, level):
    branches, main = neighbours(level_channels(), level)
    inputs = {b: level_channels()[i] for b, i in branches.items()}
    aim = materialise(plan(build(AIM, inputs, main)), jax.random.key(0))
    load_interaction(aim, f"trans.conv{level}")
    out = outputs(AIM.__call__, aim, {b: minet_features[i] for b, i in branches.items()})
    assert_published(out, f"MINet_Res50.tap.trans.{level}")
    if level == 4:
        sim = materialise(plan(build(SIM)), jax.random.key(0))
        load_interaction(sim, "sim32")
        assert_published(outputs(SIM.__call__, sim, out), "MINet_Res50.tap.sim32")


def test_rsu_blocks_of_u2netp():
    x = channels_last("U2NETP.input")
    for stage, height in enumerate((7, 6, 5, 4, 4, 4), start=1):
        rsu = materialise(plan(build(RSU, x.shape[-1], 16, 64, height=height, dilated=stage > 4)), jax.random.key(0))
        load_rsu(rsu, f"stage{stage}")
        y = outputs(RSU.__call__, rsu, x)
        assert_published(y, f"U2NETP.tap.stage{stage}")
        x = max_pool_ceil(y)
