"""With which versions a report was made."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("jax", "flax", "numpy", "scipy", "pillow")


def versions() -> dict[str, str]:
    """Versions of this package, with its commit in a checkout, of Python and of what the numbers depend on."""
    commit = source_commit(Path(__file__).parents[1])
    own = version("afiu-jax") + (f" ({commit})" if commit else "")
    return {"afiu_jax": own, "Python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def source_commit(package: Path) -> str | None:
    """Short hash of the checkout that a package's folder is part of, with a word if files differ from it.

    None if the folder is not under version control; a checkout around an installed package is another project's.
    """

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(package), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if (
        git("ls-files", "--error-unmatch", "__init__.py") is None
        or (commit := git("rev-parse", "--short", "HEAD")) is None
    ):
        return None
    return f"commit {commit}" + (", with changes" if git("status", "--porcelain", "--", ".") else "")
