"""Memory that a program on a CPU gives back and takes again with every step."""

import ctypes

# Names and numbers of <malloc.h>.
_M_ARENA_MAX, _M_MMAP_MAX, _M_TRIM_THRESHOLD = -8, -4, -1


def keep_freed_memory() -> bool:
    """From now on, what is freed stays with the process, as PyTorch keeps a GPU's.

    glibc gives large blocks back to the system, and meeting each page anew takes a tenth of a training step or a map.
    All threads share one arena, which alone can grow beyond 64 MiB.

    Returns:
        Whether this C library has such settings; others are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl; Windows has no such handle
        return False
    return all([mallopt(_M_ARENA_MAX, 1), mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, -1)])
