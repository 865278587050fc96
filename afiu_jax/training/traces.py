"""Steps as earlier processes have traced them, so that the next one of the same run need not trace its own.

JAX keeps compiled programs, but has to trace a function, seconds of Python for a large network, to see whether it has
the program. What is kept here is what tracing leads to, as ``jax.export`` writes it; it is compiled, or found among
JAX's programs, as ever.
"""

import hashlib
import json
import os
import re
import sys
import sysconfig
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import jax
from jax import export
from jaxtyping import Array

import afiu_jax
from afiu_jax.compilation import program_folder
from afiu_jax.training.config import Resolved
from afiu_jax.training.state import TrainState
from afiu_jax.training.step import Images, Maps, Report, TrainStep, jit_step

_KEPT = 64
"""Files of a folder, of a megabyte or less; those not used for longest make room."""

_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Traces:
    """A folder of traced steps, found again by all that they were traced from.

    That is the configuration, JAX's settings and devices, and the files of all loaded modules: by content, or by size
    and time where they are installed packages'. What a program changes in its modules while it runs is not seen, nor
    what a network of one's own reads from elsewhere (data, the environment): only a program that changes nothing, as
    ``train.py``, may have such a folder, and such a network's step is to be made again by deleting it.

    Attributes:
        folder: made if need be.
        config_file: ``FILE[:VARIANT]`` that made the configuration.
        loaded: when the program began to load its modules, in seconds since 1970. With one that has changed since,
            which may have been before or after it was read, every step is traced.
    """

    folder: Path
    config_file: str
    loaded: float = afiu_jax.IMPORTED

    @classmethod
    def beside_programs(cls, config_file: str) -> "Traces | None":
        """In the folder where JAX keeps programs; None if it keeps none, or not in a folder."""
        folder = program_folder()
        return None if folder is None else cls(folder / "traces", config_file)

    def find(self, config: Resolved) -> "Trace | None":
        """The place of a run's step; None if it is to be traced in any case.

        Call it where a process has always loaded the same modules.

        Args:
            config: all that the step is made from.
        """
        is_plain = not config["train"]["layouts"] and jax.process_count() == 1
        is_debugged = jax.config.jax_disable_jit or jax.config.jax_debug_nans or jax.config.jax_debug_infs
        if not is_plain or is_debugged:
            return None
        source = Path(self.config_file.partition(":")[0])
        own = _own_files(source)
        if any(max(_times(path)) >= self.loaded for path in own):
            return None
        contents = _contents(own)
        devices = [f"{device} {device.device_kind}" for device in jax.devices()]
        settings = [config, self.config_file, sys.version, repr(sorted(jax.config.values.items())), devices]
        parts = [json.dumps(settings, sort_keys=True), contents, *map(_describe, sorted(_loaded(installed=True)))]
        name = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        return Trace(self.folder / f"{name}.step", config["train"]["deterministic"], source, contents)


@dataclass(frozen=True)
class Trace:
    """The place of one step.

    Attributes:
        path: its file, which need not be there.
        deterministic: as of ``make_train_step``.
        source: the configuration's file.
        contents: of all files that are not installed packages'.
    """

    path: Path
    deterministic: bool
    source: Path
    contents: str

    def use(self, make_step: Callable[[], TrainStep], state: TrainState, *batch: jax.ShapeDtypeStruct) -> TrainStep:
        """The step as it was traced before, else as it is traced now and kept.

        Args:
            make_step: gives the step to trace, see ``make_train_step``.
            state: shapes, dtypes and shardings of the state.
            *batch: those of images and masks.

        Returns:
            A step that computes the same; that of ``make_step`` if JAX cannot export it, which is tried every time.
        """
        leaves, tree = jax.tree.flatten((state, *batch))
        following = jax.tree.structure((state, Report(0, 0)))

        try:
            data = _read(self.path)
            if data is None:
                step = make_step()

                def on_leaves(*leaves: Array) -> list[Array]:
                    found = step.__wrapped__(*jax.tree.unflatten(tree, leaves))
                    assert jax.tree.structure(found) == following
                    return jax.tree.leaves(found)

                data = export.export(jax.jit(on_leaves))(*leaves).serialize()
                if _contents(_own_files(self.source)) == self.contents:  # else a module has come or changed meanwhile
                    _write(self.path, data)
            exported = export.deserialize(data)
        except Exception:  # what cannot be exported, as callbacks into Python, can be traced; a fault is raised again
            return make_step()

        def train_step(*arguments: TrainState | Images | Maps) -> tuple[TrainState, Report]:
            return jax.tree.unflatten(following, exported.call(*jax.tree.leaves(arguments)))

        return jit_step(train_step, deterministic=self.deterministic)


def _loaded(*, installed: bool) -> set[Path]:
    """Files of the loaded modules: those of packages and of Python itself, or all others."""
    names = {getattr(module, "__dict__", {}).get("__file__") for module in list(sys.modules.values())}
    of_python = re.escape(sysconfig.get_paths()["stdlib"])
    packages = re.compile(f"^{of_python}/|/(site|dist)-packages/")
    return {Path(name) for name in names if isinstance(name, str) and bool(packages.search(name)) == installed}


def _own_files(config_file: Path) -> list[Path]:
    """Files that may be under work: of modules that no package brought, and all that this project may load yet."""
    project = Path(afiu_jax.__file__).parents[1]
    parts = {path for part in ("afiu_jax", "input_pipeline") for path in (project / part).rglob("*.py")}
    return sorted({*_loaded(installed=False), *parts, config_file})


def _describe(path: Path) -> str:
    """Name, size and time of a file; the name alone if it is gone."""
    try:
        status = path.stat()
    except OSError:
        return f"{path}"
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def _times(path: Path) -> tuple[float, float]:
    """When a file was changed last, and when it came here, maybe with an older date (``rsync -a``); 0 if it is gone."""
    try:
        status = path.stat()
    except OSError:
        return 0.0, 0.0
    return status.st_mtime, status.st_ctime


def _contents(paths: list[Path]) -> str:
    """A digest of names of files and what they hold, if they can be read."""
    found = hashlib.sha256()
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError:
            content = b""
        found.update(f"{path} {len(content)}\n".encode() + content)
    return found.hexdigest()


def _read(path: Path) -> bytearray | None:
    """What ``_write`` wrote there, if it is whole."""
    try:
        content = bytearray(path.read_bytes())
    except OSError:
        return None
    with suppress(OSError):  # of someone else
        os.utime(path)
    digest, data = content[:_DIGEST], content[_DIGEST:]
    return data if hashlib.sha256(data).digest() == digest else None


def _write(path: Path, data: bytearray) -> None:
    """Writes a file and makes room for it; a folder that cannot be written stays as it is."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(hashlib.sha256(data).digest() + data)
        part.replace(path)
        for old in sorted(path.parent.iterdir(), key=_times)[:-_KEPT]:
            old.unlink()
    except OSError:
        with suppress(OSError):
            part.unlink()
