"""Maps from a network in use: the jitted program, and a batch that a CPU's processors share."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from afiu_jax.compilation import processors
from afiu_jax.layers import resize
from afiu_jax.training.step import BARRIERS_STAY, DETERMINISTIC, float32_products

Images = Float[Array, "b h w 3"] | Float[np.ndarray, "b h w 3"]
Maps = Float[Array, "b h w 1"] | Float[np.ndarray, "b h w 1"]

_PREDICT_OPTIONS = {"cpu": {"xla_backend_optimization_level": 1, **BARRIERS_STAY}}
"""By backend. LLVM's level 2 takes a third longer for maps that are no faster: convolutions come from a library."""

_AT_ONCE = 2
"""Images that a program on a CPU takes through a network together. All at once need memory that is not there yet, and
their maps leave its cache: a sixth more time for eight. One after the other, as odd numbers go, each reads the
weights."""

_THREADS = 4
"""The most threads that compute at the same time. Each needs memory of its own, for AFIU at 320 px 0.26 GB."""

_SHARED = 400 * 400
"""Pixels of an image up to which threads share a batch. Of 512×512 they gain nothing: XLA's libraries share those."""


def make_predict_step(
    graph: nnx.GraphDef, *, inverted: bool = False, deterministic: bool = False
) -> Callable[..., Maps]:
    """``(*state, images) -> maps``, from normalised images ``[b, h, w, 3]`` to float32 ``[b, h, w, 1]`` in 0…1.

    Products of float32 have all its bits on every device, also where a card would take TF32 for them.

    On a single CPU device a batch is cut into equal parts, as many as divide it, but no more than there are processors
    or than four. Each is a call of the program in a thread of its own, and maps are NumPy's: XLA's libraries share a
    convolution among processors unequally, or not at all. Settings of JAX that hold in the calling thread alone
    (contexts such as ``jax.enable_x64``) do not reach the others.

    Args:
        graph: the network. Its state is weights, batch statistics, and filtered kernels if it expects them.
        inverted: gives 1 minus the maps.
        deterministic: as of ``make_train_step``.
    """
    program = predict_program(graph, inverted=inverted, deterministic=deterministic)
    return partial(_in_threads, program) if _is_one_cpu() else program


def predict_program(graph: nnx.GraphDef, *, inverted: bool = False, deterministic: bool = False) -> Callable[..., Maps]:
    """The jitted function of ``make_predict_step``, with its arguments, for one part of a batch or all of it."""
    in_parts = _is_one_cpu()
    options = _PREDICT_OPTIONS.get(jax.default_backend(), {}) | (DETERMINISTIC if deterministic else {})

    @partial(jax.jit, compiler_options=options or None)
    def predict_step(*state_and_images: nnx.State | Images) -> Maps:
        *state, images = state_and_images

        def maps_of(images: Images) -> Maps:
            # Copied, so that what a network writes when it is called, as Flax's transforms do, is of this trace.
            with float32_products(tf32=False):
                logits = nnx.merge(graph, *state, copy=True)(images).logits
            logits = resize(logits.astype(jnp.float32), images.shape[1:3])
            return jax.nn.sigmoid(-logits if inverted else logits)

        if not in_parts or len(images) <= _AT_ONCE:
            return maps_of(images)
        parts = images.reshape(-1, _AT_ONCE if len(images) % _AT_ONCE == 0 else 1, *images.shape[1:])
        return jax.lax.map(maps_of, parts).reshape(*images.shape[:3], 1)

    return predict_step


def _is_one_cpu() -> bool:
    return jax.default_backend() == "cpu" and jax.device_count() == 1


def _in_threads(program: Callable[..., Maps], *state_and_images: nnx.State | Images) -> Maps:
    """``program`` for equal parts of the images at the same time; JAX compiles it once, while the others wait."""
    *state, images = state_and_images
    _, height, width, _ = images.shape
    count = max(n for n in range(1, min(processors(), _THREADS) + 1) if len(images) % n == 0)
    if count == 1 or height * width > _SHARED:
        return program(*state, images)
    parts = np.split(np.asarray(images), count)
    run = lambda part: np.asarray(program(*state, part))  # noqa: E731
    with ThreadPoolExecutor(count - 1) as pool:
        others = pool.map(run, parts[1:])
        # One part in this thread, whose memory is kept (``keep_freed_memory``).
        return np.concatenate([run(parts[0]), *others])
