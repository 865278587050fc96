"""Configuration files on a command line: ``--config FILE[:VARIANT]``, and ``--config.a.b=value`` to change them."""

import re
import traceback
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from afiu_jax.errors import UserError


def define_config(values: flags.FlagValues, argv: Sequence[str] | None = None) -> flags.FlagHolder:
    """The flag ``--config`` among other flags.

    Args:
        values: the flags that it joins.
        argv: the command line that will be parsed, program first; that of this process if None.
    """
    # New attributes are accepted and checked against a schema afterwards: a network's options are not known yet.
    return config_flags.DEFINE_config_file(
        "config",
        None,
        lock_config=False,
        accept_new_attributes=True,
        flag_values=values,
        sys_argv=None if argv is None else list(argv),
    )


def parse(argv: Sequence[str], values: flags.FlagValues, config: flags.FlagHolder) -> list[str]:
    """Parses a command line and loads the configuration file.

    Args:
        argv: the command line, program first.
        values: all of its flags.
        config: the one of ``define_config``.

    Returns:
        What is left of the command line, program first.

    Raises:
        UserError: wrong flags, a file that cannot be read, a variant that it does not have.
    """
    try:
        rest = values(argv)
        getattr(config.value, "seed", None)  # a file that cannot be read shows only on use
        return rest
    except (flags.Error, OSError, UserError) as error:
        raise _cause(error, argv) from None
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        if not _is_of_a_key(error):
            raise
        raise UserError(f"--config.… names no configuration key: {' '.join(str(error.args[0]).split())}") from None


def read_config(arguments: Sequence[str]) -> ConfigDict:
    """The configuration of a command line that has no flags but ``--config`` and ``--config.a.b=value``.

    Raises:
        UserError: as of ``parse``; anything else on the command line.
    """
    argv, values = ["afiu", *arguments], flags.FlagValues()
    config = define_config(values, argv)
    if rest := parse(argv, values, config)[1:]:
        raise UserError(f"unexpected argument {rest[0]!r}: write --flag=value")
    return config.value


def default_workdir(config_file: str) -> str:
    """``runs/sod`` for configs/sod.py, ``runs/sod-demo`` for configs/sod.py:demo."""
    path, _, variant = config_file.partition(":")
    name = Path(path).with_suffix("").as_posix()
    # A file in a sub-folder of configs/ keeps the sub-folder, so that names stay apart.
    name = name.rpartition("configs/")[2] if "configs/" in name else Path(name).name
    return f"runs/{name}-{variant}" if variant else f"runs/{name}"


def _is_of_a_key(error: BaseException) -> bool:
    """Whether ``--config.a.b=value`` led nowhere, and not the configuration file itself failed."""
    return any(Path(frame.filename).name == "config_path.py" for frame in traceback.extract_tb(error.__traceback__))


def _cause(error: BaseException, argv: Sequence[str]) -> UserError:
    """The user's error behind one that the flags' parser wrapped, else the parser's own in one line."""
    chain: list[BaseException] = [error]
    while inner := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(inner)
    if ours := [e for e in chain if isinstance(e, UserError)]:
        return ours[-1]
    if isinstance(error, OSError):
        return UserError(f"cannot read the configuration file {_config_path(argv)}: pass --config configs/sod.py")
    return UserError(f"wrong flags: {' '.join(str(error).split())}")


def _config_path(argv: Sequence[str]) -> str:
    return next((a.partition("=")[2] or b for a, b in pairwise([*argv, ""]) if re.match("--?config(=|$)", a)), "")
