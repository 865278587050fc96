"""A kernel's gradient in each of the ways in which it is computed: XLA's values, and where each is taken."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_program import QUICKLY_COMPILED

from afiu_jax.convolution import kernel_gradient as module
from afiu_jax.convolution.kernel_gradient import kernel_gradient

CHANNELS_LAST = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
EQUAL = ((1, 1), (1, 1))
CASES = {  # images, height, width, channels in and out; taps, strides, padding, dilation;
    # how many convolutions, and the batch and the depth of the first: channels and images
    "plain": ((8, 20, 20, 12, 16), (3, 3), (1, 1), EQUAL, (1, 1), (1, 12, 8)),
    "fewer out": ((8, 6, 7, 17, 16), (3, 3), (1, 1), EQUAL, (1, 1), (1, 16, 8)),
    "fewer out, unequal": ((1, 6, 7, 20, 4), (3, 2), (1, 1), ((1, 3), (2, 1)), (2, 1), (1, 4, 1)),
    # exchanged, the kernel would be larger than the map
    "fewer out, cropped": ((2, 9, 8, 20, 4), (3, 3), (1, 1), ((0, 0), (1, 1)), (1, 1), (1, 20, 2)),
    "somewhat fewer out": ((8, 10, 6, 20, 17), (3, 3), (1, 1), EQUAL, (1, 1), (1, 20, 8)),
    "many in": ((8, 10, 6, 128, 20), (3, 3), (1, 1), EQUAL, (1, 1), (1, 20, 8)),
    "many in, few pixels": ((8, 7, 7, 128, 20), (3, 3), (1, 1), EQUAL, (1, 1), (1, 128, 8)),
    "few images": ((2, 12, 20, 4, 16), (3, 3), (1, 1), EQUAL, (1, 1), (1, 4, 8)),
    "few images, dilated": ((1, 20, 24, 3, 5), (1, 5), (1, 1), ((0, 0), (3, 5)), (1, 2), (1, 3, 8)),
    "few images, fewer out": ((4, 11, 10, 8, 4), (3, 3), (1, 1), EQUAL, (1, 1), (1, 4, 8)),
    "few images, few pixels": ((2, 9, 20, 4, 16), (3, 3), (1, 1), EQUAL, (1, 1), (1, 4, 2)),
    "few images, a width without divisors": ((2, 12, 19, 4, 16), (3, 3), (1, 1), EQUAL, (1, 1), (1, 4, 2)),
    "few images, strides": ((2, 40, 40, 3, 8), (3, 3), (2, 2), EQUAL, (1, 1), (1, 3, 2)),
    "as large as one band": ((4, 25, 35, 20, 20), (3, 3), (1, 1), EQUAL, (1, 1), (1, 20, 4)),
    "large": ((3, 26, 40, 20, 24), (3, 3), (1, 1), ((1, 2), (0, 1)), (2, 1), (7, 20, 3)),
    "large, many in": ((8, 13, 6, 130, 20), (3, 3), (1, 1), EQUAL, (1, 1), (7, 20, 8)),
    "large, of more bands than there may be": ((8, 40, 20, 17, 24), (3, 3), (1, 1), EQUAL, (1, 1), (10, 17, 8)),
    "large, strides": ((8, 26, 80, 3, 24), (3, 3), (1, 2), EQUAL, (1, 1), (1, 3, 8)),
}
LIMITS = {"_EIGEN": 16, "_QUICK": 128, "_FEW": 400, "_IMAGES": 8, "_LARGE": 70_000, "_BAND": 10_000, "_BANDS": 10}


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    for name, value in LIMITS.items():
        monkeypatch.setattr(module, name, value)


def both_ways(name):
    (images, height, width, channels, features), taps, strides, padding, dilation, _ = CASES[name]
    random = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(random.standard_normal(shape), jnp.float32)  # noqa: E731
    x, kernel = draw(images, height, width, channels), draw(*taps, channels, features)
    forward = partial(jax.lax.conv_general_dilated, rhs_dilation=dilation, **CHANNELS_LAST)
    low = [before for before, _ in padding]
    result, xlas = jax.vjp(lambda kernel: forward(x, kernel, strides, padding), kernel)
    ours = lambda x, above: kernel_gradient(x, above, taps, strides, low, dilation, **CHANNELS_LAST)  # noqa: E731
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
    assert (len(convolved), batch, depth) == CASES[name][-1]


@pytest.mark.parametrize("name", CASES)
def test_no_kernel_becomes_larger_than_the_map_that_it_meets(name):
    """XLA's libraries take none that is larger, padding left aside: its own loops took 20 times as long."""
    x, above, ours, _ = both_ways(name)
    already = any(result > side for result, side in zip(above.shape[1:3], x.shape[1:3], strict=True))
    for operation in jax.make_jaxpr(ours)(x, above).eqns:
        if operation.primitive.name == "conv_general_dilated":
            x, kernel = (variable.aval.shape for variable in operation.invars)
            assert already or (kernel[0] <= x[1] and kernel[1] <= x[2])


def test_nothing_is_summed_in_half_precision():
    operands = jnp.ones((8, 40, 20, 17), jnp.bfloat16), jnp.ones((8, 40, 20, 24), jnp.bfloat16)
    way = lambda x, above: kernel_gradient(x, above, (3, 3), (1, 1), (1, 1), (1, 1), **CHANNELS_LAST)  # noqa: E731
    assert str(jax.make_jaxpr(way)(*operands)).count("conv_general_dilated") == 1


def test_no_images_have_no_gradient():
    for channels, features in ((3, 16), (20, 4), (128, 20)):
        x, above = jnp.zeros((0, 40, 40, channels)), jnp.zeros((0, 40, 40, features))
        found = kernel_gradient(x, above, (3, 3), (1, 1), (1, 1), (1, 1), **CHANNELS_LAST)
        np.testing.assert_array_equal(found, jnp.zeros((3, 3, channels, features)))
