"""Paths as people write them."""

import os
from pathlib import Path


def at_home(path: str | os.PathLike) -> Path:
    """A path with the home folder for ``~``; as it is if its first part only looks so, as ``~photo.jpg`` does."""
    path = Path(path)
    try:
        return path.expanduser()
    except RuntimeError:  # no such user
        return path
