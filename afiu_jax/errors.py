"""The error of a wrong request, and how programs show it."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

UNSTOPPABLE = "compiling or reading a program"
"""Name of threads with XLA at work, which nothing stops, and which a process that ends as usual waits for."""


class UserError(ValueError):
    """What was asked for cannot be done. The message is one line: what is wrong, where, and what to do next.

    Characters that a terminal would obey rather than show, as names in a damaged file may have, are blanks in it.
    """

    def __init__(self, message: str):
        super().__init__("".join(letter if letter.isprintable() else " " for letter in message))


@contextmanager
def one_line_errors(*others: type[Exception]) -> Iterator[None]:
    """Prints a ``UserError`` as one line without a traceback and exits with status 2.

    So does an error of the file system (a missing permission, a full disk), which is no bug either, and that of a
    device that JAX cannot start (a GPU with a driver that is too old). Ctrl-C exits with status 130. A program whose
    output nobody reads any more (``| head``) exits with 1 and says nothing.

    Args:
        *others: more exceptions whose message is for the user.
    """
    try:
        yield
    except (UserError, *others) as error:
        message = str(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        leave(130)
    except BrokenPipeError:
        leave(1)
    except OSError as error:
        if error.strerror is None:
            raise
        message = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    except (RuntimeError, AssertionError) as error:
        if (why := _why_no_device_starts(error)) is None:
            raise
        message = f"no device to compute on ({why}): see README.md, On a GPU; JAX_PLATFORMS=cpu takes the CPU"
    else:
        return
    print(f"error: {message}", file=sys.stderr)
    leave(2)


def _why_no_device_starts(error: RuntimeError | AssertionError) -> str | None:
    """What JAX says where it cannot start a device, for which it has no exception of its own; None of other errors."""
    if isinstance(error, RuntimeError):
        return " ".join(str(error).split()) if str(error).startswith("Unable to initialize backend") else None
    try:  # it also asserts that it has one
        if "jax" in sys.modules:
            sys.modules["jax"].devices()
    except AssertionError:
        return f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS')} names none"
    return None


def leave(status: int) -> NoReturn:
    """Ends the process: as usual, or at once if XLA is at work in another thread, without what ``atexit`` would do."""
    if any(thread.name == UNSTOPPABLE for thread in threading.enumerate()):
        try:
            sys.stdout.flush()
        finally:
            os._exit(status)
    sys.exit(status)
