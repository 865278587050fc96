"""Memory that a process keeps instead of giving it back after every step and every map."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Names of glibc's options, see mallopt(3)."""


def keep_freed_memory() -> None:
    """From now on, for programs that compute on a CPU: what one step or map needed is there for the next.

    XLA asks for all memory of a program at once, 1 to 3 GB for a step, and frees it when that is done, which Linux
    answers with half a million fresh pages each time: a fifth of a step of AFIU. Kept, it has to be asked for by one
    thread, the one that calls, as glibc gives every thread a store of its own: programs are waited for where they are
    called (``jax_cpu_enable_async_dispatch``). Elsewhere than on glibc they are, too, and nothing else happens; on a
    GPU nothing does.

    Before the first use of JAX, which this is where it has not been used.
    """
    import jax  # not above: commands that need no JAX start without it

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if jax.default_backend() == "cpu" and sys.platform == "linux":
        if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
            mallopt(_MMAP_MAX, 0)
            mallopt(_TRIM_THRESHOLD, -1)
