"""Steps in files: traced, as ``jax.export`` writes a function, and compiled, as JAX serialises a program.

Reading a program takes seconds for a large network, all of it in XLA, which lets Python's other threads run meanwhile.
"""

import hashlib
import os
import pickle
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

import jax
from jax import export
from jax.experimental import serialize_executable
from jax.stages import Compiled

from afiu_jax.errors import UNSTOPPABLE

Step = Compiled | export.Exported
"""On the leaves of its arguments, giving a list of those of its results."""

_KEPT = 64
"""Files of a kind in a folder, of a few megabytes or less; those not used for longest make room."""

_HOUR = 3600

_DIGEST = hashlib.sha256().digest_size


def write_step(path: Path, trace: export.Exported, program: Path | None) -> bool:
    """Keeps a step, and where the program that was made of it lies; whether that could be done.

    Args:
        path: its file.
        trace: the step.
        program: the file, in the same folder; None if there is none.
    """
    return _write(path, lambda: (bytes(trace.serialize()), program and program.name))


def write_program(path: Path, program: Compiled) -> bool:
    """Keeps a compiled step, on any trees; whether that could be done.

    Of a CPU's programs it must be one that this process has compiled: XLA writes those that it has read without their
    functions.
    """

    def parts() -> tuple[bytes, int, int]:
        data, arguments, results = serialize_executable.serialize(program)
        return data, arguments.num_leaves, results.num_leaves

    return _write(path, parts)


def read_step(path: Path) -> Step | None:
    """The step of a file: its program, else as it was traced; None if it is not there, or damaged."""
    try:
        trace, program = _read(path)
        return (program and read_program(path.with_name(program))) or export.deserialize(bytearray(trace))
    except Exception:  # it is made anew, whatever is wrong with the file
        return None


def read_program(path: Path) -> Compiled | None:
    """The program of a file, on leaves; None if it is not there, is damaged, or is of other devices."""
    try:
        data, arguments, results = _read(path)
        trees = [jax.tree.structure(tree) for tree in (((0,) * arguments, {}), [0] * results)]
        return serialize_executable.deserialize_and_load(data, *trees)
    except Exception:
        return None


def write_file(path: Path, content: bytes) -> bool:
    """Writes a file as a whole, beside at most as many of its kind as are kept; whether that could be done."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        return False
    left = [old for old in path.parent.glob("*.part") if _changed(old) < time.time() - _HOUR]  # of ended processes
    for old in (*sorted(path.parent.glob(f"*{path.suffix}"), key=_changed)[:-_KEPT], *left):
        with suppress(OSError):
            old.unlink()
    return True


class Reading:
    """A step that a thread of its own reads from now on.

    Attributes:
        path: its file.
    """

    def __init__(self, path: Path):
        self.path, self._found = path, []
        self._thread = Thread(target=lambda found=self._found: found.append(read_step(path)), name=UNSTOPPABLE)
        self._thread.start()

    def result(self) -> Step | None:
        """What ``read_step`` gives; waits for it. The caller has it from then on."""
        self._thread.join()
        return self._found.pop() if self._found else None

    def drop(self) -> None:
        """What is read is not kept in memory."""
        self._found = []


def _write(path: Path, parts: Callable[[], tuple]) -> bool:
    try:
        content = zlib.compress(pickle.dumps(parts()), 1)
    except Exception:  # what cannot be serialised JAX says in many ways, and a run goes on without
        return False
    return write_file(path, hashlib.sha256(content).digest() + content)


def _read(path: Path) -> tuple:
    """What ``_write`` wrote there.

    Raises:
        Exception: it is not there, or not whole.
    """
    content = path.read_bytes()
    digest, content = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError(f"{path} is damaged")
    with suppress(OSError):  # of someone else
        os.utime(path)
    return pickle.loads(zlib.decompress(content))


def _changed(path: Path) -> float:
    """When a file was changed, in seconds since 1970; 0 if it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
