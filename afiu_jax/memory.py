"""Memory that a process keeps instead of giving it back after every step and every map."""

import ctypes
import sys

import numpy as np

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Names of glibc's options, see mallopt(3)."""

_PAGE, _PART = 2**12, 2**26
"""Bytes of the smallest page, and of what is met at a time."""


def keep_freed_memory() -> bool:
    """From now on, for a program that computes on one CPU: what one step or map needed is there for the next.

    XLA asks for all memory of a program at once, 1 to 3 GB for a step, and frees it when that is done, which Linux
    answers with half a million fresh pages each time: a fifth of a step of AFIU. It can only be kept where the main
    thread asks for it, as glibc gives other threads small stores of their own. So programs are run by the thread that
    calls them, and waited for there (``jax_cpu_enable_async_dispatch``).

    Call it from the main thread, before anything is computed; it starts JAX's backend. On a GPU freed memory is not
    kept. On systems without glibc nothing happens.

    Returns:
        Whether it is kept.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    import jax  # not above: commands that need no JAX start without it

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if jax.default_backend() != "cpu":
        return False
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)
    return True


def meet_memory(size: int) -> None:
    """Takes memory from the system, for whatever the main thread asks for next, a program of one device for instance.

    The first step would meet it in its own time; a thread that waits for a compiler has time. NumPy asks for large
    pages. Call it only where ``keep_freed_memory`` says that freed memory is kept.

    Args:
        size: in bytes.
    """
    try:
        block = np.empty(size, np.uint8)
    except MemoryError:  # it is a guess, and may be more than is needed
        return
    for start in range(0, size, _PART):  # in parts, so that Ctrl-C need not wait long
        block[start : start + _PART : _PAGE] = 0


def is_long_step(parameters: int, pixels: int) -> bool:
    """Whether a training step takes a few tenths of a second or more on a CPU, so that it is worth keeping its memory.

    Full AFIU is above at any size, AFIU-small at its usual sizes. Shorter steps rather overlap with what the host does,
    and 5,000 of a tiny network got slower with memory kept (``benchmarks/README.md``).

    Args:
        parameters: of the network.
        pixels: of all images of a batch.
    """
    return parameters * pixels >= 10**11
