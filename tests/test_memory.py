"""Freed memory is kept, in a process of its own."""

import platform
import subprocess
import sys

import pytest
from conftest import TINY_OPTIONS

from afiu_jax.layers import count_parameters
from afiu_jax.memory import is_long_step
from afiu_jax.networks import NETWORKS, abstract_model

PROGRAM = """
import ctypes, resource, sys
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: no large pages, whatever the machine's setting
import numpy as np
if "keep" in sys.argv:
    from afiu_jax.memory import keep_freed_memory, meet_memory
    assert keep_freed_memory()
import jax
import jax.numpy as jnp

def fresh_pages(function):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    function()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def run():
    x.block_until_ready()
    float(program(x))

x = jnp.ones((64, 2**18))
program = jax.jit(lambda x: jnp.cumsum(jnp.cumsum(x, 1)[:, ::-1], 1)[0, 5])
run()
run()
# Of several runs the least: now and then a thread takes another arena of malloc, and meets it for the first time.
print(*(fresh_pages(lambda: np.ones(2**26, np.uint8)) for _ in range(2)), min(fresh_pages(run) for _ in range(4)))
if "meet" in sys.argv:
    meet_memory(2**29 + 1)
print(fresh_pages(lambda: np.ones(2**29, np.uint8)))
"""


def test_steps_of_afiu_and_its_small_preset_are_long_and_those_of_tiny_networks_are_not():
    full, small = (count_parameters(abstract_model("afiu", **kind)) for kind in ({}, NETWORKS["afiu"].presets["small"]))
    assert is_long_step(full, 2 * 160**2) and is_long_step(full, 8 * 320**2)
    assert is_long_step(small, 16 * 128**2) and is_long_step(small, 8 * 160**2)
    tiny = count_parameters(abstract_model("afiu", **TINY_OPTIONS))
    assert not is_long_step(tiny, 2 * 64**2)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these options")
@pytest.mark.parametrize("asked", [(), ("keep",), ("keep", "meet")], ids=str)
def test_memory_is_there_the_next_time_and_the_first_if_it_was_met(asked):
    keep, meet = "keep" in asked, "meet" in asked
    environment = {"NUMPY_MADVISE_HUGEPAGE": "0", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", PROGRAM, *asked]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    first, second, of_a_program, larger = map(int, done.stdout.split())
    assert (second < 1000) == keep
    assert (of_a_program < 1000) == keep, (first, second, of_a_program)
    assert (larger < 1000) == meet
