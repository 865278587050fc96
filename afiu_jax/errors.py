"""The error of a wrong request."""


class UserError(ValueError):
    """What was asked for cannot be done. The message is one line: what is wrong, where, and what to do next.

    ``train.py`` and the ``afiu`` command print it without a traceback and exit with status 2.
    """
