"""Convolutions with gradients of their own: XLA's values, and what its libraries can take, in loops, too."""

import re
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_program import values_and_gradients

from afiu_jax.convolution import cpu
from afiu_jax.convolution.canonical import convolve

CHANNELS_LAST = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
SIZES = [(9, 12), (3, 2)]
STRIDES_AND_DILATIONS = [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((1, 1), (2, 2)), ((2, 3), (3, 1))]
PADDINGS = {"equal": ((1, 1), (1, 1)), "unequal": ((0, 3), (4, 1)), "more than the kernel": ((9, 8), (7, 9))}


def arrays(size=(9, 12), taps=(3, 3)):
    random = np.random.default_rng(0)
    shapes = (2, *size, 3), (*taps, 3, 5)
    return [jnp.asarray(random.standard_normal(shape), jnp.float32) for shape in shapes]


def way(compute, padding=PADDINGS["equal"], strides=(1, 1), dilation=(1, 1)):
    return lambda x, kernel: compute(x, kernel, strides, padding, rhs_dilation=dilation, **CHANNELS_LAST)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("taps", [(3, 3), (1, 4)], ids=str)
def test_gradients_are_those_of_xla(taps, padding):
    compared = 0
    for size, (strides, dilation) in product(SIZES, STRIDES_AND_DILATIONS):
        padded = [side + sum(pads) for side, pads in zip(size, PADDINGS[padding], strict=True)]
        if any(side <= step * (tap - 1) for side, step, tap in zip(padded, dilation, taps, strict=True)):
            continue  # nothing is left of so small a map
        how = PADDINGS[padding], strides, dilation
        ways = [way(compute, *how) for compute in (convolve, jax.lax.conv_general_dilated)]
        for ours, xlas in zip(*values_and_gradients(ways, arrays(size, taps)), strict=True):
            np.testing.assert_allclose(ours, xlas, atol=1e-5 * np.abs(xlas).max(), err_msg=f"{size} {how}")
        compared += 1
    assert compared >= 4


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of a CPU's compiler")
def test_every_convolution_in_a_loop_has_its_channels_last():
    def orders_in_loop(compute) -> set[str]:
        def step(kernel, x):
            to_x, to_kernel = jax.grad(lambda *operands: jnp.sin(way(compute)(*operands)).sum(), (0, 1))(x, kernel)
            return kernel - to_kernel, to_x

        x, kernel = arrays()
        program = jax.jit(lambda kernel, xs: jax.lax.scan(step, kernel, xs)).lower(kernel, jnp.stack([x] * 4))
        return set(re.findall(r"dim_labels=([\w>-]+)", program.compile().as_text()))

    as_a_word = lambda x, kernel, strides, _, **options: cpu.convolve(x, kernel, strides, "SAME", **options)  # noqa: E731
    for compute in (convolve, cpu.convolve, as_a_word):
        assert orders_in_loop(compute) == {"b01f_01io->b01f"}
    assert len(orders_in_loop(jax.lax.conv_general_dilated)) > 1  # else XLA needs no help any more
