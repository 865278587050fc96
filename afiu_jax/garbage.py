"""Garbage collection of programs that start by making millions of objects, nearly all of which stay."""

import gc

_USUAL = gc.get_threshold()


def collect_seldom() -> None:
    """From now on, for the start: with Python's threshold of 700 objects it takes an eighth of the time to a map."""
    gc.set_threshold(100_000, 20, 20)


def settle() -> None:
    """When the start is over: what is garbage goes, the rest is not looked at again; then Python's threshold."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_USUAL)


def leave_all() -> None:
    """When the process ends: looking through everything once more would take a quarter of a second."""
    gc.freeze()
