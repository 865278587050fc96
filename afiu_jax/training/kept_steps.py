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

import jax
from ml_collections import ConfigDict

import afiu_jax
from afiu_jax.compilation import program_folder
from afiu_jax.memory import keep_freed_memory
from afiu_jax.training.schema import Resolved
from afiu_jax.training.step_files import Reading, Step, read_step, write_file, write_step


@dataclass(frozen=True)
class KeptSteps:
    """A folder of compiled steps, found again by all that they were made from.

    That is the configuration, JAX's settings, the devices, and the files of all loaded modules: by content, or by size
    and time where they are installed packages'. What a program changes in its modules while it runs is not seen, nor
    what a network of one's own reads from elsewhere (data, the environment): only a program that changes nothing, as
    ``train.py``, may have such a folder, and such a network's step is to be made again by deleting it.

    As JAX's own folder of programs, it must be one that nobody else can write.

    Attributes:
        folder: made if need be.
        config_file: ``FILE[:VARIANT]`` that made the configuration.
        loaded: when the program began to load its modules, in seconds since 1970. With one that has changed since,
            which may have been before or after it was read, no step is taken or kept.
        guess: file that names the step which this run is thought to need; None: a run like it is not thought of.
        reading: that step, which is being read.
    """

    folder: Path
    config_file: str
    loaded: float = afiu_jax.IMPORTED
    guess: Path | None = None
    reading: "Reading | None" = None

    @classmethod
    def beside_programs(cls, config_file: str) -> "KeptSteps | None":
        """In the folder where JAX keeps programs; None if it keeps none, or not in a folder."""
        folder = program_folder()
        return None if folder is None else cls(folder / "steps", config_file)

    def with_head_start(self, config: ConfigDict) -> "KeptSteps":
        """Begins to read the step that the last run of this configuration needed, if reading it takes long.

        It is a guess: ``find`` says later, when the data are known and all modules are loaded, which step is needed.
        Call it from the main thread, before anything is computed.

        Args:
            config: as the command line gives it.
        """
        told = json.dumps([self.config_file, config.to_dict()], sort_keys=True, default=str)
        guess = self.folder / f"{_digest_of(told)}.guess"
        try:
            name = guess.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return replace(self, guess=guess)
        keep_freed_memory()  # as every run does that takes long to read; it changes the devices' settings
        return replace(self, guess=guess, reading=Reading(self.folder / name))

    def find(self, config: Resolved, *, is_long: bool = False) -> "KeptStep | None":
        """The place of a run's step; None if it is to be traced in any case.

        Call it where a process has always loaded the same modules.

        Args:
            config: all that the step is made from.
            is_long: whether the next run of this configuration shall have a head start.
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
        settings = [config, self.config_file, sys.version, repr(sorted(jax.config.values.items())), _machine()]
        parts = [json.dumps(settings, sort_keys=True), contents, *map(_describe, sorted(_loaded(installed=True)))]
        path = self.folder / f"{_digest_of(*parts)}.step"
        reading = self.reading if self.reading and self.reading.path == path else None
        return KeptStep(path, source, contents, self.guess if is_long else None, reading)


@dataclass(frozen=True)
class KeptStep:
    """The place of one step.

    Attributes:
        path: its file, which need not be there.
        source: the configuration's file.
        contents: of all files that are not installed packages'.
        guess: where to note that the next run of this configuration will need it; None: nowhere.
        reading: the step if it is being read.
    """

    path: Path
    source: Path
    contents: str
    guess: Path | None = None
    reading: Reading | None = None

    def read(self) -> Step | None:
        """The step, see ``read_step``."""
        step = self.reading.result() if self.reading else read_step(self.path)
        if step:
            self._note()
        return step

    def keep(self, step: Step) -> None:
        """Keeps a step, see ``write_step``, if all that it was made from is still as it was when it was looked for."""
        if _contents(_own_files(self.source)) == self.contents and write_step(self.path, step):
            self._note()

    def _note(self) -> None:
        if self.guess:
            write_file(self.guess, self.path.name.encode())


def _machine() -> list[str]:
    """What a program may depend on besides its function: devices, their drivers, and what the processor can do."""
    told = [f"{device} {device.device_kind} {device.client.platform_version}" for device in jax.devices()]
    told += [platform.machine(), os.environ.get("XLA_FLAGS", "")]
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
