"""Garbage collection of programs that start by making millions of objects, nearly all of which stay."""

import gc

_USUAL = gc.get_threshold()


def collect_seldom() -> None:
    """From now on, for the start: with Python's threshold of 700 objects it takes an eighth of the time to a map."""
    gc.set_threshold(100_000, 20, 20)


def keep_all() -> None:
    """What there is stays, and is not looked at even when the process ends; for the rest, Python's threshold."""
    gc.freeze()
    gc.set_threshold(*_USUAL)
