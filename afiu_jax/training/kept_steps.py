"""Steps as earlier processes have made them, so that the next one of the same run need not trace its own.

JAX keeps compiled programs, but has to trace a function and lower it, seconds of Python for a large network, to see
whether it has the program. A step that is kept here is known by what it was made from, and can be read from the start
of the process on, beside all that comes before the first step, see ``KeptSteps.with_head_start``.
"""

import hashlib
import json
import os
import platform
import re
import sys
import sysconfig
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jaxlib
from jax import export
from ml_collections import ConfigDict

import afiu_jax
from afiu_jax.compilation import processors, program_folder
from afiu_jax.memory import keep_freed_memory
from afiu_jax.training.schema import Resolved
from afiu_jax.training.step_files import Reading, Step, read_step, write_file, write_step

_NAME = re.compile(r"[0-9a-f]{64}\.step")


@dataclass(frozen=True)
class KeptSteps:
    """A folder of steps, found again by all that they were made from.

    That is the configuration, JAX's settings, the devices, and the files of all loaded modules: by content, or by size
    and time where they are installed packages'. What a program changes in its modules while it runs is not seen, nor
    what a network of one's own reads from elsewhere (data, the environment), nor code that is run without being a
    module (``exec``, ``runpy``): only a program that changes nothing, as ``train.py``, may have such a folder, and such
    a network's step is to be made again by deleting it.

    As JAX's own folder of programs, it must be one that nobody else can write.

    Attributes:
        folder: made if need be.
        config_file: ``FILE[:VARIANT]`` that made the configuration.
        loaded: when the program began to load its modules, in seconds since 1970. With one that has changed since,
            which may have been before or after it was read, no step is taken or kept.
        guess: file that names the step which this run is thought to need; None: it is not thought of.
        reading: that step, which is being read.
    """

    folder: Path
    config_file: str
    loaded: float = afiu_jax.IMPORTED
    guess: Path | None = None
    reading: Reading | None = None

    @classmethod
    def beside_programs(cls, config_file: str) -> "KeptSteps | None":
        """In the folder where JAX keeps programs; None if it keeps none, or not in a folder."""
        folder = program_folder()
        return None if folder is None else cls(folder / "steps", config_file)

    def with_head_start(self, config: ConfigDict, init_from: str | None) -> "KeptSteps":
        """Begins to read the step that the last run like this one needed, if reading it takes long.

        It is a guess from what is known already: ``find`` says later, when the data are known and all modules are
        loaded, which step is needed. Call it from the main thread, before anything is computed.

        Args:
            config: as the command line gives it.
            init_from: the network where the run starts.
        """
        told = json.dumps([config.to_dict(), init_from], sort_keys=True, default=str)
        contents = _contents(_own_files(self._source()))
        guess = self.folder / f"{_digest_of(self.config_file, told, contents, *_settings(), *_processor())}.guess"
        try:
            name = guess.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return replace(self, guess=guess)
        # All guesses are of runs that keep freed memory, which is settled before the first use of devices.
        if not keep_freed_memory() or jax.process_count() > 1 or not _NAME.fullmatch(name):
            return replace(self, guess=guess)
        return replace(self, guess=guess, reading=Reading(self.folder / name))

    def find(self, config: Resolved, *, head_start: bool = False) -> "KeptStep | None":
        """The place of a run's step; None if it is to be traced in any case.

        Call it where a process has always loaded the same modules.

        Args:
            config: all that the step is made from.
            head_start: whether the next run like this one shall have one: if it keeps freed memory.
        """
        is_plain = not config["train"]["layouts"] and jax.process_count() == 1
        is_debugged = jax.config.jax_disable_jit or jax.config.jax_debug_nans or jax.config.jax_debug_infs
        own = _own_files(self._source())
        if not is_plain or is_debugged or any(max(_times(path)) >= self.loaded for path in own):
            self._drop()
            return None
        contents, machine = _contents(own), _digest_of(*_settings(), *_processor(), *_devices())
        installed = map(_describe, sorted(_loaded(installed=True)))
        name = _digest_of(json.dumps(config, sort_keys=True), self.config_file, contents, machine, *installed)
        path, reading = self.folder / f"{name}.step", self.reading
        if reading and reading.path != path:
            self._drop()
            reading = None
        return KeptStep(path, self._source(), contents, machine, self.guess if head_start else None, reading)

    def _source(self) -> Path:
        return Path(self.config_file.partition(":")[0])

    def _drop(self) -> None:
        if self.reading:
            self.reading.drop()


@dataclass(frozen=True)
class KeptStep:
    """The place of one step.

    Attributes:
        path: its file, which need not be there.
        source: the configuration's file.
        contents: of all files that are not installed packages'.
        machine: of what a program depends on besides its step.
        guess: where to note that the next run like this one will need it; None: nowhere.
        reading: the step if it is being read.
    """

    path: Path
    source: Path
    contents: str
    machine: str
    guess: Path | None = None
    reading: Reading | None = None

    def read(self) -> Step | None:
        """The step, see ``read_step``."""
        step = self.reading.result() if self.reading else read_step(self.path)
        if step:
            self._note()
        return step

    def program_of(self, text: str, options: dict[str, Any]) -> Path:
        """The place of what the compiler makes of a step: one for steps that differ in nothing but lines of code.

        Args:
            text: the step as the compiler is given it.
            options: the compiler's.
        """
        return self.path.with_name(f"{_digest_of(text, json.dumps(options, sort_keys=True), self.machine)}.program")

    def keep(self, trace: export.Exported, program: Path | None) -> None:
        """Keeps a step, see ``write_step``, if all that it was made from is as it was when it was looked for."""
        if _contents(_own_files(self.source)) == self.contents and write_step(self.path, trace, program):
            self._note()

    def _note(self) -> None:
        if self.guess:
            write_file(self.guess, self.path.name.encode())


def _settings() -> list[str]:
    """What JAX and XLA are told by their options and by the environment, and their versions."""
    options, flags = repr(sorted(jax.config.values.items())), os.environ.get("XLA_FLAGS", "").strip()
    content = "" if flags.startswith("-") else _contents([Path(flags)])  # else they are the name of a file with them
    return [sys.version, jax.__version__, jaxlib.__version__, options, flags, content]


def _devices() -> list[str]:
    return [f"{device} {device.device_kind} {device.client.platform_version}" for device in jax.devices()]


def _processor() -> list[str]:
    """What the processor can do, and how many of it there are for this process, which XLA shares its loops among."""
    told = [platform.machine(), str(processors())]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return [*told, platform.node()]
    return told + sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})


def _digest_of(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


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
