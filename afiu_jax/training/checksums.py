"""Checksums of a checkpoint's files, since Orbax reads flipped bits in an array without a word."""

import hashlib
import json
from pathlib import Path

from afiu_jax.training.logging import write_json

NAME = "checksums.json"


def seal(step_folder: Path) -> None:
    """Writes the checksums of a checkpoint that is on disk; one without them, of a run killed just before, is as good.

    Raises:
        OSError: as of any file.
    """
    files = sorted(path for path in step_folder.rglob("*") if path.is_file() and path.name != NAME)
    write_json(step_folder / NAME, {path.relative_to(step_folder).as_posix(): _sha256(path) for path in files})


def is_sealed(step_folder: Path) -> bool:
    """Whether there are checksums of a checkpoint."""
    return (step_folder / NAME).exists()


def damage(step_folder: Path, *items: str) -> str | None:
    """What differs from what was written, or None; also None where no checksums are.

    Args:
        step_folder: the checkpoint.
        *items: which of its items will be read; all if none are named.
    """
    path = step_folder / NAME
    if not is_sealed(step_folder):
        return None
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return f"{NAME} is no JSON"
    for name, digest in written.items():
        file = step_folder / name
        if items and name.partition("/")[0] not in items:
            continue
        if not file.is_file():
            return f"{name} is missing"
        if _sha256(file) != digest:
            return f"{name} is not what was written"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
