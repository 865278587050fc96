"""Kernels that are filtered once: the same maps, and which kernels are left as they lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from one_program import QUICKLY_COMPILED
from two_rsus import TwoRSUs

from afiu_jax import create_model
from afiu_jax.convolution import cpu, winograd
from afiu_jax.convolution.filtered import filter_kernels
from afiu_jax.training.state import graph_of


def test_kernels_that_are_filtered_once_give_the_same_maps(monkeypatch):
    monkeypatch.setattr(winograd, "_WIDE", 32 * 16)
    monkeypatch.setattr(cpu, "_LARGE", 1)
    model = TwoRSUs(rngs=nnx.Rngs(0))
    images = jnp.asarray(np.random.default_rng(0).standard_normal((1, 64, 64, 3), np.float32))

    def maps_and_filterings(*state: nnx.State) -> tuple[np.ndarray, int]:
        graph = nnx.graphdef(model)
        maps_of = lambda *state: nnx.merge(graph, *state)(images).logits  # noqa: E731
        program = str(jax.make_jaxpr(maps_of)(*state))
        return np.asarray(jax.jit(maps_of, compiler_options=QUICKLY_COMPILED)(*state)), program.count("f32[16,9]")

    graph_of(model, training=False, platform="cpu")
    state = nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)
    expected, filterings = maps_and_filterings(*state)
    filtered = filter_kernels(model, state[0])
    found, filterings_again = maps_and_filterings(*state, filtered)
    # 64 to 16 and to 64 channels, and 32 to 16 and to 64, where they are not dilated.
    assert len(jax.tree.leaves(filtered)) == 7
    assert filterings > 0 == filterings_again
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_filtered_kernel_takes_padding_as_a_word():
    images = jnp.asarray(np.random.default_rng(0).standard_normal((1, 24, 20, 128), np.float32))
    for padding in ("SAME", "VALID"):
        layer = nnx.Conv(128, 128, (3, 3), padding=padding, dtype=jnp.float32, rngs=nnx.Rngs(0))
        expected = layer(images)
        graph_of(layer, training=False, platform="cpu")
        assert len(jax.tree.leaves(filter_kernels(layer, nnx.state(layer, nnx.Param)))) == 1
        np.testing.assert_allclose(layer(images), expected, atol=2e-5 * np.abs(expected).max())


def test_a_filtered_network_can_be_set_for_training_again():
    layer = nnx.Conv(128, 128, (3, 3), dtype=jnp.float32, rngs=nnx.Rngs(0))
    graph_of(layer, training=False, platform="cpu")
    filter_kernels(layer, nnx.state(layer, nnx.Param))
    assert layer.conv_general_dilated is not cpu.convolve_in_use
    graph_of(layer, training=True, platform="cpu")
    assert layer.conv_general_dilated is cpu.convolve


class Twice(nnx.Module):
    """Two convolutions with one kernel."""

    def __init__(self):
        self.a, self.b = (nnx.Conv(128, 128, (3, 3), dtype=jnp.float32, rngs=nnx.Rngs(0)) for _ in range(2))
        self.b.kernel = self.a.kernel

    def __call__(self, x):
        return self.b(self.a(x))


def test_of_two_convolutions_with_one_kernel_one_is_filtered():
    model = Twice()
    images = jnp.asarray(np.random.default_rng(0).standard_normal((1, 24, 20, 128), np.float32))
    expected = model(images)
    graph_of(model, training=False, platform="cpu")
    assert len(jax.tree.leaves(filter_kernels(model, nnx.state(model, nnx.Param)))) == 1
    np.testing.assert_allclose(model(images), expected, atol=2e-5 * np.abs(expected).max())


def standardised(kernel):
    return kernel - kernel.mean((0, 1, 2))


class WeightStandardised(nnx.Conv):
    """A class that changes its kernel when it is called."""

    def __call__(self, x):
        raw = self.kernel[...]
        self.kernel[...] = standardised(raw)
        y = super().__call__(x)
        self.kernel[...] = raw
        return y


CHANGED = {
    "a class": lambda rngs: WeightStandardised(128, 128, (3, 3), rngs=rngs),
    "types' conversion": lambda rngs: nnx.Conv(
        128, 128, (3, 3), promote_dtype=lambda a, dtype: (a[0], standardised(a[1]), a[2]), rngs=rngs
    ),
    "a spectral norm": lambda rngs: nnx.SpectralNorm(nnx.Conv(128, 128, (3, 3), rngs=rngs), rngs=rngs),
    "a stack": nnx.vmap(lambda rngs: nnx.Conv(128, 128, (3, 3), rngs=rngs), axis_size=2),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_kernel_that_a_call_changes_is_not_filtered(name):
    layer = CHANGED[name](nnx.Rngs(0).split(2) if name == "a stack" else nnx.Rngs(0))
    graph_of(layer, training=False, platform="cpu")
    assert not jax.tree.leaves(filter_kernels(layer, nnx.state(layer, nnx.Param)))


@pytest.mark.parametrize(
    "options", [{"strides": None}, {"kernel_dilation": None}, {"param_dtype": jnp.bfloat16}], ids=str
)
def test_what_flax_takes_of_a_filtered_kernel(options):
    layer = nnx.Conv(128, 128, (3, 3), dtype=jnp.float32, rngs=nnx.Rngs(0), **options)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 24, 20, 128), np.float32))
    expected = layer(x)
    graph_of(layer, training=False, platform="cpu")
    assert len(jax.tree.leaves(filter_kernels(layer, nnx.state(layer, nnx.Param)))) == 1
    np.testing.assert_allclose(layer(x), expected, atol=2e-5 * np.abs(expected).max())


def test_a_masked_kernel_is_not_filtered():
    mask = jnp.asarray(np.tril(np.ones((128, 128), np.float32)))[None, None] * jnp.ones((3, 3, 1, 1))
    layer = nnx.Conv(128, 128, (3, 3), padding=[(1, 1), (1, 1)], mask=mask, dtype=jnp.float32, rngs=nnx.Rngs(0))
    for masked in (True, False):
        layer.mask = mask if masked else None
        graph_of(layer, training=False, platform="cpu")
        assert len(jax.tree.leaves(filter_kernels(layer, nnx.state(layer, nnx.Param)))) == (not masked)


def test_no_kernel_is_filtered_where_none_is_wide_or_xla_computes(monkeypatch):
    model = create_model("u2netp", rngs=nnx.Rngs(0))
    for wide, platform in ((winograd._WIDE, "cpu"), (1, "gpu")):
        monkeypatch.setattr(winograd, "_WIDE", wide)
        graph = graph_of(model, training=False, platform=platform)
        assert not jax.tree.leaves(filter_kernels(model, nnx.state(model, nnx.Param)))
        assert nnx.graphdef(model) == graph
