"""Convolutions for GPUs against XLA's own: the same values and gradients, in shapes that it takes for what they are."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from one_program import QUICKLY_COMPILED, values_and_gradients
from two_rsus import TwoRSUs

from afiu_jax import create_model
from afiu_jax.convolution.choice import suit_platform
from afiu_jax.convolution.gpu import convolve
from afiu_jax.training.state import graph_of

# Sides of the map, kernel, stride, dilation, padding.
MISTAKEN = {
    "dilated": ((12, 16), (3, 3), 1, (2, 2), [(2, 2), (2, 2)]),
    "dilated, sides that do not divide": ((13, 15), (3, 3), 1, (3, 2), [(3, 3), (2, 2)]),
    "dilated on one axis": ((12, 16), (3, 3), 1, (1, 3), [(1, 1), (3, 3)]),
    "dilated by less padding": ((12, 16), (3, 3), 1, (3, 3), [(1, 2), (2, 0)]),
    "dilated, fewer pixels than taps reach": ((6, 5), (3, 3), 1, (7, 7), [(7, 7), (7, 7)]),
    "small": ((2, 2), (3, 3), 1, (1, 1), [(1, 1), (1, 1)]),
    "as large as the kernel": ((3, 3), (3, 3), 1, (1, 1), [(1, 1), (1, 1)]),
    "small on one axis": ((2, 9), (3, 3), 1, (1, 1), [(1, 1), (1, 1)]),
    "few results": ((4, 4), (3, 3), 1, (1, 1), [(0, 0), (0, 0)]),
    "dilated, padding as a word": ((7, 8), (3, 3), 1, (2, 2), "SAME"),
    "small and dilated": ((2, 3), (3, 3), 1, (2, 2), [(2, 2), (2, 2)]),
}
OTHERS = {
    "plain": ((12, 16), (3, 3), 1, (1, 1), [(1, 1), (1, 1)]),
    "small, every second pixel": ((3, 2), (3, 3), 2, (1, 1), [(1, 1), (1, 1)]),
    "dilated, every second pixel": ((12, 16), (3, 3), 2, (2, 2), [(2, 2), (2, 2)]),
    "one tap, dilated": ((6, 7), (1, 3), 1, (2, 1), [(0, 0), (1, 1)]),
    "1x1 on one pixel": ((1, 1), (1, 1), 1, (1, 1), [(0, 0), (0, 0)]),
    "every second pixel, padding as a word": ((12, 15), (3, 3), 2, (1, 1), "SAME"),
}


def case(sides, kernel, stride, dilation, padding):
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((2, *sides, 3), np.float32))
    weights = jnp.asarray(random.standard_normal((*kernel, 3, 4), np.float32))
    options = {"rhs_dilation": dilation, "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    return x, weights, lambda compute: lambda x, w: compute(x, w, (stride, stride), padding, **options)


@pytest.mark.parametrize("name", MISTAKEN | OTHERS)
def test_values_and_gradients_are_those_of_the_convolution(name):
    x, weights, way = case(*(MISTAKEN | OTHERS)[name])
    ways = way(convolve), way(jax.lax.conv_general_dilated)
    for ours, theirs in zip(*values_and_gradients(ways, (x, weights)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())


def taken_for(convolution: jax.extend.core.JaxprEqn, taps: tuple[int, int]) -> str:
    """What XLA takes an operation for, by its rules.

    One with a kernel larger than its result is a kernel's gradient, unless it has a stride. In any other with more
    pixels in the kernel than in the map, the two change places.
    """
    numbers = convolution.params["dimension_numbers"]
    pixels, kernel, result = (
        [variable.aval.shape[n] for n in spec[2:]]
        for variable, spec in zip((*convolution.invars, *convolution.outvars), numbers, strict=True)
    )
    if all(a > b for a, b in zip(kernel, result, strict=True)) and convolution.params["window_strides"] == (1, 1):
        return "gradient of a kernel"
    return "convolution" if tuple(kernel) == taps and np.prod(kernel) < np.prod(pixels) else "something else"


def convolutions(jaxpr: jax.extend.core.Jaxpr) -> Iterator[jax.extend.core.JaxprEqn]:
    for equation in jaxpr.eqns:
        if equation.primitive is jax.lax.conv_general_dilated_p:
            yield equation
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                yield from convolutions(value.jaxpr)


@pytest.mark.parametrize("name", MISTAKEN)
def test_xla_takes_the_gradients_for_what_they_are(name):
    x, weights, way = case(*MISTAKEN[name])

    def found(compute) -> list[str]:
        square = lambda x, w: jnp.square(way(compute)(x, w)).sum()  # noqa: E731
        program = jax.make_jaxpr(jax.grad(square, (0, 1)))(x, weights).jaxpr
        return sorted(taken_for(convolution, weights.shape[:2]) for convolution in convolutions(program))

    right = ["convolution", "convolution", "gradient of a kernel"]
    assert found(convolve) == right
    assert found(jax.lax.conv_general_dilated) != right


def test_grouped_and_half_precision_kernels_have_the_gradients_of_the_convolution():
    random = np.random.default_rng(0)
    x, weights = (jnp.asarray(random.standard_normal(s), jnp.bfloat16) for s in ((2, 6, 7, 4), (3, 3, 2, 6)))
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": 2, "rhs_dilation": (2, 2)}
    way = lambda compute: lambda x, w: compute(x, w, (1, 1), [(2, 2), (2, 2)], **options)  # noqa: E731
    ways = way(convolve), way(jax.lax.conv_general_dilated)
    for ours, theirs in zip(*values_and_gradients(ways, (x, weights)), strict=True):
        assert ours.dtype == jnp.bfloat16
        ours, theirs = (np.asarray(array, np.float32) for array in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, atol=2**-6 * np.abs(theirs).max())


SPLIT = r"""
import re, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from afiu_jax.convolution.gpu import convolve

devices = Mesh(np.asarray(jax.devices()), ("data",))
place = lambda shape, *spec: jax.ShapeDtypeStruct(
    shape, "float32", sharding=NamedSharding(devices, PartitionSpec(*spec))
)
options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "rhs_dilation": (2, 2)}
square = lambda x, w: jnp.square(convolve(x, w, (1, 1), [(2, 2), (2, 2)], **options)).sum()
step = jax.jit(jax.grad(square, 1), out_shardings=NamedSharding(devices, PartitionSpec()))
program = step.lower(place((16, 12, 14, 3), "data"), place((3, 3, 3, 4))).compile().as_text()
print(len(jax.devices()), *sorted(set(re.findall(r" (all-\w+|collective-\w+|reduce-scatter)", program))))
"""


def test_a_batch_that_devices_share_stays_where_it_is(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    done = subprocess.run([sys.executable, "-c", SPLIT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["8", "all-reduce"]  # the kernel's gradient, and nothing else


def test_a_network_has_the_same_maps_and_gradients_on_every_platform():
    model = TwoRSUs(rngs=nnx.Rngs(0))
    model.eval()
    images = jnp.asarray(np.random.default_rng(0).standard_normal((1, 8, 8, 3), np.float32))  # 2×2 at the bottom
    params, rest = nnx.state(model, nnx.Param), nnx.state(model, nnx.Not(nnx.Param))

    def maps_and_gradients(platform: str) -> list[np.ndarray]:
        graph = graph_of(model, training=False, platform=platform)

        @partial(jax.jit, compiler_options=QUICKLY_COMPILED)
        def compute(params):
            maps, derive = jax.vjp(lambda params: nnx.merge(graph, params, rest)(images).logits, params)
            return maps, *jax.tree.leaves(derive(maps))

        return [np.asarray(array) for array in compute(params)]

    expected = maps_and_gradients("none")
    for platform in ("cpu", "gpu"):
        for ours, theirs in zip(maps_and_gradients(platform), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())


def test_maps_are_computed_on_a_gpu_as_in_training():
    layer = nnx.Conv(8, 16, (3, 3), rngs=nnx.Rngs(0))
    for training in (True, False):
        suit_platform(layer, "gpu", training=training)
        assert layer.conv_general_dilated is convolve


def test_a_platform_that_is_not_known_leaves_convolutions_to_xla():
    model = create_model("u2netp", rngs=nnx.Rngs(0))
    for platform, plain in (("gpu", False), ("tpu", True), ("cpu", False)):
        suit_platform(model, platform, training=True)
        ways = {module.conv_general_dilated for _, module in nnx.iter_modules(model) if isinstance(module, nnx.Conv)}
        assert (ways == {jax.lax.conv_general_dilated}) == plain and len(ways) == 1
