"""Steps in files: compiled, as JAX serialises a program, or only traced, as ``jax.export`` writes a function.

Reading a compiled one takes seconds for a large network, all of it in XLA, which lets Python's other threads run
meanwhile. A digest tells whether a file is whole.
"""

import hashlib
import os
import pickle
import zlib
from contextlib import suppress
from pathlib import Path
from threading import Thread

import jax
from jax import export
from jax.experimental import serialize_executable
from jax.stages import Compiled

from afiu_jax.errors import COMPILING

Step = Compiled | export.Exported
"""On the leaves of its arguments, giving a list of those of its results."""

_KEPT = 64
"""Files of a kind in a folder, steps of a few megabytes each; those not used for longest make room."""

_DIGEST = hashlib.sha256().digest_size


def write_step(path: Path, step: Step) -> bool:
    """Keeps a step, and makes room for it; a folder that cannot be written stays as it is.

    Args:
        path: its file.
        step: traced, or compiled, by this process: XLA does not write out a CPU's program a second time, which it has
            read itself. A compiled one may take any trees.

    Returns:
        Whether it is kept.
    """
    if isinstance(step, Compiled):
        program, arguments, results = serialize_executable.serialize(step)
        parts = (program, arguments.num_leaves, results.num_leaves)
    else:
        parts = (bytes(step.serialize()),)
    content = zlib.compress(pickle.dumps(parts), 1)
    return write_file(path, hashlib.sha256(content).digest() + content)


def read_step(path: Path) -> Step | None:
    """The step that a file holds; None if it is not there, is damaged, or is of other devices."""
    try:
        content = path.read_bytes()
        digest, content = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(content).digest() != digest:
            return None
        with suppress(OSError):  # of someone else
            os.utime(path)
        data, *counts = pickle.loads(zlib.decompress(content))
        if not counts:
            return export.deserialize(bytearray(data))
        arguments, results = counts
        trees = [jax.tree.structure(tree) for tree in (((0,) * arguments, {}), [0] * results)]
        return serialize_executable.deserialize_and_load(data, *trees)
    except Exception:  # it is made anew, whatever is wrong with the file
        return None


def write_file(path: Path, content: bytes) -> bool:
    """Writes a file as a whole, beside at most as many of its kind as are kept; whether that could be done."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
        for old in sorted(path.parent.glob(f"*{path.suffix}"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            old.unlink()
    except OSError:
        with suppress(OSError):
            part.unlink()
        return False
    return True


class Reading:
    """A step that a thread of its own reads from now on.

    Attributes:
        path: its file.
    """

    def __init__(self, path: Path):
        self.path, self._step = path, None
        self._thread = Thread(target=self._read, name=COMPILING)
        self._thread.start()

    def result(self) -> Step | None:
        """What ``read_step`` gives; waits for it."""
        self._thread.join()
        return self._step

    def _read(self) -> None:
        self._step = read_step(self.path)
