"""Convolutions for GPUs against XLA's own: the same values and gradients, in shapes that it takes for what they are."""

from collections.abc import Iterator

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from afiu_jax import create_model
from afiu_jax.convolutions import set_convolutions
from afiu_jax.cudnn import convolve
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
    "small and dilated": ((2, 3), (3, 3), 1, (2, 2), [(2, 2), (2, 2)]),
}
OTHERS = {
    "plain": ((12, 16), (3, 3), 1, (1, 1), [(1, 1), (1, 1)]),
    "small, every second pixel": ((3, 2), (3, 3), 2, (1, 1), [(1, 1), (1, 1)]),
    "dilated, every second pixel": ((12, 16), (3, 3), 2, (2, 2), [(2, 2), (2, 2)]),
    "1x1 on one pixel": ((1, 1), (1, 1), 1, (1, 1), [(0, 0), (0, 0)]),
    "padding as a word": ((7, 8), (3, 3), 1, (2, 2), "SAME"),
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
    expected, derive_expected = jax.vjp(way(jax.lax.conv_general_dilated), x, weights)
    found, derive = jax.vjp(way(convolve), x, weights)
    above = jnp.asarray(np.random.default_rng(1).standard_normal(expected.shape, np.float32))
    for ours, theirs in zip((found, *derive(above)), (expected, *derive_expected(above)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())


def is_recognised(convolution: jax.extend.core.JaxprEqn, taps: tuple[int, int]) -> bool:
    """XLA's rules: what has a kernel larger than its result is a kernel's gradient, unless it has a stride.

    A convolution's two factors are exchanged where the kernel has more pixels than the map.
    """
    numbers = convolution.params["dimension_numbers"]
    pixels, kernel, result = (
        [variable.aval.shape[n] for n in spec[2:]]
        for variable, spec in zip((*convolution.invars, *convolution.outvars), numbers, strict=True)
    )
    if all(a > b for a, b in zip(kernel, result, strict=True)):
        return convolution.params["window_strides"] == (1, 1)
    return tuple(kernel) == taps and np.prod(kernel) < np.prod(pixels)


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

    def recognised(compute) -> list[bool]:
        square = lambda x, w: jnp.square(way(compute)(x, w)).sum()  # noqa: E731
        found = list(convolutions(jax.make_jaxpr(jax.grad(square, (0, 1)))(x, weights).jaxpr))
        assert len(found) == 3
        return [is_recognised(equation, weights.shape[:2]) for equation in found]

    assert all(recognised(convolve))
    assert not all(recognised(jax.lax.conv_general_dilated))


def test_a_network_has_the_same_maps_and_gradients_on_every_platform():
    model = create_model("u2netp", rngs=nnx.Rngs(0))
    images = jnp.asarray(np.random.default_rng(0).standard_normal((1, 32, 32, 3), np.float32))
    state = nnx.state(model)

    def maps_and_gradients(platform: str) -> list[np.ndarray]:
        graph = graph_of(model, training=False, platform=platform)

        @jax.jit
        def compute(state):
            maps, derive = jax.vjp(lambda images: nnx.merge(graph, state)(images).logits, images)
            return maps, *derive(maps)

        return [np.asarray(array) for array in compute(state)]

    expected = maps_and_gradients("none")
    for platform in ("cpu", "gpu"):
        for ours, theirs in zip(maps_and_gradients(platform), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())


def test_a_platform_that_is_not_known_leaves_convolutions_to_xla():
    model = create_model("u2netp", rngs=nnx.Rngs(0))
    for platform, plain in (("gpu", False), ("tpu", True), ("cpu", False)):
        set_convolutions(model, platform)
        ways = {module.conv_general_dilated for _, module in nnx.iter_modules(model) if isinstance(module, nnx.Conv)}
        assert (ways == {jax.lax.conv_general_dilated}) == plain and len(ways) == 1
