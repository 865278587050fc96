"""Freed memory is kept, in a process of its own."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, sys
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: no large pages, whatever the machine's setting
import numpy as np
if "keep" in sys.argv:
    from afiu_jax.memory import keep_freed_memory
    keep_freed_memory()

def fresh_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**26, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(fresh_pages(), fresh_pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these options")
@pytest.mark.parametrize("keep", [False, True])
def test_memory_is_there_the_second_time(keep):
    environment = {"NUMPY_MADVISE_HUGEPAGE": "0", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", PROGRAM, *["keep"][: int(keep)]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    first, second = map(int, done.stdout.split())
    assert first > 1000
    assert (second < first / 10) == keep
