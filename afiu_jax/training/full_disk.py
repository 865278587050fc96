"""A full disk, said in one line: it can show while a checkpoint is written, a line of the log, or when files close."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from afiu_jax.errors import UserError
from afiu_jax.training.checkpoint import whole_steps

_FULL = (errno.ENOSPC, errno.EDQUOT)
_TEXTS = tuple(map(os.strerror, _FULL))


@contextmanager
def naming_full_disk(workdir: Path) -> Iterator[None]:
    """Turns whatever a full disk raises into one line.

    Raises:
        UserError: the disk was full; it names the checkpoint from which the run goes on.
    """
    try:
        yield
    except Exception as error:
        if not _is_of_full_disk(error):
            raise
        steps = whole_steps(workdir)
        kept = f"the checkpoint of step {steps[-1]} is whole" if steps else "no checkpoint was written yet"
        raise UserError(
            f"no space left on the disk of {workdir}; {kept}: make room, and the same command goes on"
        ) from error


def _is_of_full_disk(error: BaseException | None) -> bool:
    """Whether an error, or one behind it, is of a full disk. TensorStore, below Orbax, says so in its text alone."""
    while error is not None:
        if getattr(error, "errno", None) in _FULL or any(text in str(error) for text in _TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False
