"""The error of a wrong request, and how programs show it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """What was asked for cannot be done. The message is one line: what is wrong, where, and what to do next.

    Characters that a terminal would obey rather than show, as names in a damaged file may have, are blanks in it.
    """

    def __init__(self, message: str):
        super().__init__("".join(letter if letter.isprintable() else " " for letter in message))


@contextmanager
def one_line_errors(*others: type[Exception]) -> Iterator[None]:
    """Prints a ``UserError`` as one line without a traceback and exits with status 2.

    So does an error of the file system (a missing permission, a full disk), which is no bug either. Ctrl-C ends the
    process with status 130, whatever its threads are doing.

    Args:
        *others: more exceptions whose message is for the user.
    """
    try:
        yield
    except (UserError, *others) as error:
        message = str(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)  # at once: as usual, it would wait for threads, and a compiler at work would abort it
    except OSError as error:
        if error.strerror is None:
            raise
        message = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    else:
        return
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
