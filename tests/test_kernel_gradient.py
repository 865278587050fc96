"""A kernel's gradient in each of the ways in which it is computed: XLA's values, and where each is taken."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_program import QUICKLY_COMPILED

from afiu_jax import kernel_gradient as module
from afiu_jax.kernel_gradient import kernel_gradient

CHANNELS_LAST = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
EQUAL = ((1, 1), (1, 1))
CASES = {  # images, height, width, channels in and out; taps, strides, padding, dilation
    "plain": ((8, 20, 20, 12, 16), (3, 3), (1, 1), EQUAL, (1, 1)),
    "fewer out": ((8, 6, 7, 20, 4), (3, 3), (1, 1), EQUAL, (1, 1)),
    "fewer out, unequal": ((1, 6, 7, 20, 4), (3, 2), (1, 1), ((0, 3), (2, 1)), (2, 1)),
    "fewer out, cropped": ((2, 9, 8, 20, 4), (3, 3), (1, 1), ((-1, 2), (1, -1)), (1, 1)),
    "many in": ((8, 10, 6, 128, 20), (3, 3), (1, 1), EQUAL, (1, 1)),
    "few images": ((2, 12, 20, 4, 16), (3, 3), (1, 1), EQUAL, (1, 1)),
    "few images, dilated": ((1, 20, 24, 3, 5), (1, 5), (1, 1), ((0, 0), (3, 5)), (1, 2)),
    "few images, fewer out": ((4, 11, 10, 8, 4), (3, 3), (1, 1), EQUAL, (1, 1)),
    "large": ((3, 26, 40, 20, 24), (3, 3), (1, 1), ((1, 2), (0, 1)), (2, 1)),
    "large, many in": ((8, 13, 6, 130, 20), (3, 3), (1, 1), EQUAL, (1, 1)),
    "strides": ((2, 13, 20, 24, 4), (3, 3), (2, 1), EQUAL, (1, 1)),
}
CONVOLUTIONS = {  # how many, and the batch and the depth of the first: channels and images
    "plain": (1, 12, 8),
    "fewer out": (1, 4, 8),
    "fewer out, unequal": (1, 4, 1),
    "fewer out, cropped": (1, 4, 2),
    "many in": (1, 20, 8),
    "few images": (1, 4, 8),
    "few images, dilated": (1, 3, 8),
    "few images, fewer out": (1, 4, 8),
    "large": (7, 20, 3),
    "large, many in": (7, 20, 8),
    "strides": (1, 24, 2),
}


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr(module, "_LARGE", 70_000)
    monkeypatch.setattr(module, "_BAND", 10_000)


def both_ways(name):
    (images, height, width, channels, features), taps, strides, padding, dilation = CASES[name]
    random = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(random.standard_normal(shape), jnp.float32)  # noqa: E731
    x, kernel = draw(images, height, width, channels), draw(*taps, channels, features)
    forward = partial(jax.lax.conv_general_dilated, rhs_dilation=dilation, **CHANNELS_LAST)
    result, xlas = jax.vjp(lambda kernel: forward(x, kernel, strides, padding), kernel)
    ours = lambda x, above: kernel_gradient(x, above, taps, strides, padding, dilation, **CHANNELS_LAST)  # noqa: E731
    return x, draw(*result.shape), ours, lambda _, above: xlas(above)[0]


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_that_of_xla(name):
    x, above, *ways = both_ways(name)
    compute = jax.jit(lambda x, above: [way(x, above) for way in ways], compiler_options=QUICKLY_COMPILED)
    ours, xlas = map(np.asarray, compute(x, above))
    np.testing.assert_allclose(ours, xlas, atol=1e-5 * np.abs(xlas).max())


@pytest.mark.parametrize("name", CASES)
def test_roles_strips_and_bands(name):
    x, above, ours, _ = both_ways(name)
    operations = jax.make_jaxpr(ours)(x, above).eqns
    convolved = [o.invars[0].aval.shape for o in operations if o.primitive.name == "conv_general_dilated"]
    batch, *_, depth = convolved[0]
    assert (len(convolved), batch, depth) == CONVOLUTIONS[name]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[3] == EQUAL])
def test_no_kernel_is_larger_than_the_map_that_it_meets(name):
    """XLA's libraries take none that is larger, padding left aside: its own loops took 30 times as long."""
    x, above, ours, _ = both_ways(name)
    for operation in jax.make_jaxpr(ours)(x, above).eqns:
        if operation.primitive.name == "conv_general_dilated":
            x, kernel = (variable.aval.shape for variable in operation.invars)
            assert kernel[0] <= x[1] and kernel[1] <= x[2]
