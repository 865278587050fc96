"""Stopping a run from outside without losing anything."""

import os
import signal
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import FrameType, TracebackType
from typing import TypeVar

import jax

T = TypeVar("T")


_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none

_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([_HANGUP] if _HANGUP else []))


class Stopped(Exception):  # noqa: N818 - no error
    """A signal came while something was going on that need not be finished."""


class StopRequest:
    """Turns Ctrl-C, SIGTERM and SIGHUP into a flag while it is open; a second one ends the program as usual.

    SIGHUP is what the closing of a terminal sends, more than once, and is left alone where it is ignored (``nohup``).

    Attributes:
        signal: the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        for number in _SIGNALS:
            if number is not _HANGUP or signal.getsignal(number) != signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def watched(self, items: Iterable[T]) -> Iterator[T]:
        """The items, until a signal comes. Several processes of one run hand on all: they have to stop together.

        Raises:
            Stopped: it came.
        """
        for item in items:
            if self.signal and jax.process_count() == 1:
                raise Stopped
            yield item

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        if number == _HANGUP:
            signal.signal(number, signal.SIG_IGN)  # from here on: the next is on its way
            self._previous.pop(number, None)
            _leave_terminal()
        self._restore()

    def _restore(self) -> None:
        for number, handler in list(self._previous.items()):
            signal.signal(number, handler)


def _leave_terminal() -> None:
    """Lets what is printed go nowhere, where it went to a terminal that is gone or, by a pipe, to what went with it.

    Writing there would be an error, before anything is saved.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        with suppress(OSError):  # it was closed before
            kind = os.fstat(stream).st_mode
            if stat.S_ISCHR(kind) or stat.S_ISFIFO(kind):
                os.dup2(nowhere, stream)
    os.close(nowhere)
