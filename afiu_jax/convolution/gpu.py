"""Convolutions written so that XLA hands their gradients to cuDNN as what they are.

XLA tells a kernel's gradient from a convolution by the shapes that it meets. Where maps are no larger than the kernel,
or the kernel's taps lie apart, it takes the one for the other: maps are transposed to make batches of channels, and a
dilated kernel's gradient becomes a convolution with a kernel as large as the map. The result is the same. Convolutions
of ``mixed_precision`` are computed so on every platform.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from afiu_jax.convolution.remat import KEPT
from afiu_jax.convolution.taps import Pair, padding_in_pixels


def convolve(
    x: Float[Array, "b ... c"],
    kernel: Float[Array, "... c2 f"],
    strides: Pair,
    padding: str | Sequence[Pair],
    *,
    lhs_dilation: Pair = (1, 1),
    rhs_dilation: Pair = (1, 1),
    **options: object,
) -> Float[Array, "b ... f"]:
    """``jax.lax.conv_general_dilated`` of maps with channels last, with gradients that XLA recognises.

    Maps no larger than the kernel get rows and columns of zeros, whose results are dropped. Dilated kernels of stride 1
    have no forward-mode derivative (``jax.jvp``). Where there are not two axes or maps are spread out, XLA is left to
    itself.

    Args:
        x: maps, ``[b, h, w, c]``.
        kernel: height, width, input channels of a group, output channels.
        strides: of either axis, in pixels.
        padding: rows above and below, columns left and right; or ``SAME``, ``VALID``.
        lhs_dilation: distance between the pixels of ``x`` on either axis.
        rhs_dilation: distance between taps on either axis, in pixels.
        options: what else ``conv_general_dilated`` takes.

    Returns:
        Maps of the output's size, of the type of ``x``.
    """
    taps, axes = kernel.shape[:-2], (0, 1)
    if len(taps) != 2 or max(lhs_dilation) > 1 or max(taps) == 1:
        options |= {"lhs_dilation": lhs_dilation, "rhs_dilation": rhs_dilation}
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)
    dilation = tuple(step if tap > 1 else 1 for step, tap in zip(rhs_dilation, taps, strict=True))
    padding = padding_in_pixels(x, kernel, strides, padding, dilation)
    sides = x.shape[1:3]
    results = [(sides[n] + sum(padding[n]) - dilation[n] * (taps[n] - 1) - 1) // strides[n] + 1 for n in axes]
    # XLA compares a plain kernel with its results, too.
    least = [min(sides[n], results[n]) if strides[n] == dilation[n] == 1 else sides[n] for n in axes]
    fill = [max(0, taps[n] + 1 - least[n]) for n in axes]
    if max(fill):
        # Barriers, since XLA moves zeros that it sees into the convolution, and meets the small map again.
        x = jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), *((0, n) for n in fill), (0, 0))))
    if max(dilation) == 1 or max(strides) > 1:
        found = jax.lax.conv_general_dilated(x, kernel, strides, padding, rhs_dilation=dilation, **options)
    else:
        found = _dilated(x, kernel, tuple(map(tuple, padding)), dilation, tuple(options.items()))
        # Policies of jax.checkpoint look for convolutions, and see none inside a function with a gradient of its own.
        found = checkpoint_name(found, KEPT)
    return jax.lax.optimization_barrier(found)[:, : results[0], : results[1]] if max(fill) else found


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _dilated(x: Array, kernel: Array, padding: tuple, dilation: tuple, options: tuple) -> Array:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, rhs_dilation=dilation, **dict(options))


def _forward(x, kernel, *how):
    return _dilated(x, kernel, *how), (x, kernel)


def _backward(padding, dilation, options, kept, above):
    """Taps ``step`` pixels apart meet every ``step``-th pixel only; these, as maps of their own, meet a plain kernel.

    With ``low`` zeros before it, a map's pixel ``step * (result + tap) + r - low`` meets a tap for the result
    ``step * result + r``. Of these zeros ``first`` are whole pixels of the new maps, and ``before`` part of one.
    """
    x, kernel = kept
    compute = partial(jax.lax.conv_general_dilated, window_strides=(1, 1), **dict(options))
    (to_x,) = jax.linear_transpose(lambda x: compute(x, kernel, padding=padding, rhs_dilation=dilation), x)(above)
    plain, small = [], False
    for axis, (step, taps, (low, _)) in enumerate(zip(dilation, kernel.shape, padding, strict=False), 1):
        results = max(-(-above.shape[axis] // step), taps + 1)
        small |= results * step - above.shape[axis] >= step
        first, before = divmod(low, step)
        needed = results + taps - 1 - first
        pixels = min(-(-(x.shape[axis] + before) // step), needed)
        x, above = _apart(x, axis, step, pixels, before), _apart(above, axis, step, results)
        plain.append((first, needed - pixels))
    above = jax.lax.optimization_barrier(above) if small else above  # as in ``convolve``
    (to_kernel,) = jax.linear_transpose(lambda kernel: compute(x, kernel, padding=plain), kernel)(above)
    return to_x, to_kernel


_dilated.defvjp(_forward, _backward)


def _apart(x: Float[Array, "b h w c"], axis: int, step: int, count: int, before: int = 0) -> Float[Array, "b2 h2 w2 c"]:
    """``step`` maps for every one: every ``step``-th of its rows or columns, from the first, the second, … one on.

    Each has ``count`` of them, with ``before`` zeros before the first of all. Maps from one lie together, so that a
    batch that is spread over devices stays where it is. Selected, not concatenated: XLA would lay slices out as it
    finds ``x``, and transpose them.
    """
    pads = [(0, 0)] * x.ndim
    pads[axis] = (before, max(0, step * count - x.shape[axis] - before))
    x = jnp.pad(x, pads)
    parts = [jax.lax.slice_in_dim(x, first, step * count, step, axis) for first in range(step)]
    if step == 1:
        return parts[0]
    shape = (len(x), step, *parts[0].shape[1:])
    which = jax.lax.broadcasted_iota(jnp.int32, shape, 1)
    found = jax.lax.select_n(which, *(jnp.broadcast_to(part[:, None], shape) for part in parts))
    return found.reshape(-1, *shape[2:])
