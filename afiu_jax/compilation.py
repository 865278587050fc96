"""The cache of compiled programs, so that the second run of anything starts at once, and what they are compiled for."""

import os
from pathlib import Path

import jax


def processors() -> int:
    """How many processors this process may use: XLA compiles for as many, and has as many threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def program_folder() -> Path | None:
    """Where compiled programs are kept from now on, see ``enable_compilation_cache``; None if nowhere on a disk."""
    enable_compilation_cache()
    place = jax.config.jax_compilation_cache_dir
    return None if not jax.config.jax_enable_compilation_cache or "://" in place else Path(place)


def enable_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, or where ``JAX_COMPILATION_CACHE_DIR`` says.

    Small ones too: a run begins with a hundred of them.
    """
    if not jax.config.jax_compilation_cache_dir:
        try:
            home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        except RuntimeError:  # a user without a home, as in containers
            jax.config.update("jax_enable_compilation_cache", False)
            return
        jax.config.update("jax_compilation_cache_dir", str(home / "afiu_jax" / "xla"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
