"""Stopping a run from outside without losing anything."""

import signal
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import TypeVar

import jax

T = TypeVar("T")


class Stopped(Exception):  # noqa: N818 - no error
    """A signal came while something was going on that need not be finished."""


class StopRequest:
    """Turns Ctrl-C and SIGTERM into a flag while it is open; a second one ends the program as usual.

    Attributes:
        signal: the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGINT, signal.SIGTERM):
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
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
