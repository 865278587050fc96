"""How programs talk: a console that prints paths as they are, and libraries that keep to themselves."""

import logging as python_logging
from collections.abc import Iterable, Iterator
from typing import TypeVar

from absl import logging
from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def open_console(*, stderr: bool = False) -> Console:
    """A console that neither interprets brackets in paths nor breaks them over lines."""
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=True, stderr=stderr)


def can_move(console: Console) -> bool:
    """Whether what is shown may change in place: in a terminal. ``FORCE_COLOR`` makes none of a file, as in CI jobs."""
    return console.is_terminal and console.file.isatty()


def progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Goes through the items with a progress bar on a terminal's error stream, and with none elsewhere."""
    console = Console(stderr=True)
    yield from track(items, description, total, console=console, transient=True, disable=not can_move(console))


def quiet_orbax() -> None:
    """Silences Orbax, which reports every file that it writes; warnings of all others stay.

    So does what it logs of errors, with tracebacks of many lines: it raises them, too, and here they become one line.
    """
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_logger().addFilter(_not_orbax)


def _not_orbax(record: python_logging.LogRecord) -> bool:
    return "orbax" not in record.pathname or record.levelno >= python_logging.CRITICAL
