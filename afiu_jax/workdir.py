"""The folder of a run or of a study belongs to one process at a time, and has to take what is written into it.

A lock of ``flock`` goes when the process that holds it goes, killed or not, so a lock is never stale. It is held
twice: inside the folder, which follows the folder when that is moved, and beside it, which a process that is still
saving keeps when somebody deletes the folder and begins another run in its place.
"""

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from afiu_jax.errors import UserError


@dataclass(frozen=True)
class Hold:
    """A folder that belongs to this process.

    Attributes:
        folder: the folder.
        descriptor: the open lock inside it; a process that inherits it holds the folder, too.
    """

    folder: Path
    descriptor: int

    def require(self) -> None:
        """Returns if the folder is still the one that was locked, so that writing cannot hurt anybody else's.

        Raises:
            UserError: it was deleted, moved or replaced.
        """
        if not _is_open_at(self.descriptor, inside(self.folder)):
            raise UserError(
                f"{self.folder} was deleted or moved while this process was at work in it: nothing more is written; "
                "start again, in another folder if this one is in use"
            )


@contextmanager
def sole_use(folder: Path, what: str = "run", advice: str = "pass another --workdir") -> Iterator[Hold]:
    """Makes a folder if need be, and holds it for this process and for those that inherit the lock's descriptor.

    Args:
        folder: absolute path.
        what: kind of program that works there, for messages.
        advice: what one can do instead, for messages.

    On a file system without locks (Lustre without its option ``flock``, some network drives) nothing is held, and a
    warning says so.

    Raises:
        UserError: another live process holds it, or it cannot be written.
    """
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                held.callback(os.close, _lock(beside(folder))[0])
                held.callback(_remove, beside(folder))  # while it is still locked, so that it is nobody else's
            except OSError as error:
                # Only who may write beside a folder can delete it: where nobody may, its own lock is enough.
                if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                    raise
            descriptor, is_locked = _lock(inside(folder))
            held.callback(os.close, descriptor)
            if not is_locked:
                print(
                    f"warning: the file system of {folder} has no locks: see to it yourself that no other {what} works "
                    "there",
                    file=sys.stderr,
                )
        except BlockingIOError:
            raise UserError(f"another {what} is at work in {folder}: wait until it has ended, or {advice}") from None
        except OSError as error:
            raise UserError(f"cannot write in {folder} ({error.strerror}): {advice}") from error
        yield Hold(folder, descriptor)


def inside(folder: Path) -> Path:
    """The lock file in a folder."""
    return folder / ".lock"


def beside(folder: Path) -> Path:
    """The lock file next to a folder."""
    return folder.with_name(f".{folder.name}.lock")


def _lock(path: Path) -> tuple[int, bool]:
    """An open file with a lock on it, that is at its path: its last holder may have removed it meanwhile.

    Returns:
        its descriptor, and whether it is locked; it is not where the file system has no locks.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            is_locked = _lock_if_possible(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        if _is_open_at(descriptor, path):
            return descriptor, is_locked
        os.close(descriptor)


def _lock_if_possible(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        return False
    return True


def _remove(path: Path) -> None:
    with suppress(OSError):  # the disk has become read-only, or somebody has cleaned up
        path.unlink()


def _is_open_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
