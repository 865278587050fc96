"""Trains a network: ``python train.py --config configs/sod.py [--workdir DIR] [--init_from DIR] [--config.a.b=value]``.

Only flags live here; the run is ``afiu_jax.training.loop.train_and_evaluate``.
"""

import re
import signal
import sys
from itertools import pairwise
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from afiu_jax.console import quiet_orbax
from afiu_jax.errors import UserError, one_line_errors
from afiu_jax.training.loop import train_and_evaluate
from input_pipeline.records import DataError

# New attributes are accepted here and checked against the schema afterwards: a network's options are not known yet.
CONFIG = config_flags.DEFINE_config_file("config", None, lock_config=False, accept_new_attributes=True)
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; runs/<config>[-<variant>] unless told")
INIT_FROM = flags.DEFINE_string("init_from", None, "workdir (best checkpoint, else last), step, file or name")


def main(argv: list[str]) -> None:
    """Runs the training that the flags ask for."""
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}: write --flag=value")
    if CONFIG.value is None:
        raise UserError("no configuration: pass --config configs/sod.py (or configs/dbd.py)")
    quiet_orbax()
    outcome = train_and_evaluate(CONFIG.value, WORKDIR.value or _default_workdir(), INIT_FROM.value)
    if outcome.stopped_by:
        sys.exit(128 + signal.Signals[outcome.stopped_by])


def _default_workdir() -> str:
    """``runs/sod`` for configs/sod.py, ``runs/sod-demo`` for configs/sod.py:demo."""
    path, _, variant = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    name = Path(path).with_suffix("").as_posix()
    # A file in a sub-folder of configs/ keeps the sub-folder, so that names stay apart.
    name = name.rpartition("configs/")[2] if "configs/" in name else Path(name).name
    return f"runs/{name}-{variant}" if variant else f"runs/{name}"


def _parse(argv: list[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
        getattr(CONFIG.value, "seed", None)  # a file that cannot be read shows only on use
        return rest
    except (flags.Error, OSError, UserError) as error:
        raise _cause(error) from None


def _cause(error: BaseException) -> UserError:
    """The user's error behind one that the flags' parser wrapped, else the parser's own in one line."""
    chain: list[BaseException] = [error]
    while inner := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(inner)
    if ours := [e for e in chain if isinstance(e, UserError)]:
        return ours[-1]
    if isinstance(error, OSError):
        return UserError(f"cannot read the configuration file {_config_path()}: pass --config configs/sod.py")
    return UserError(f"wrong flags: {' '.join(str(error).split())}")


def _config_path() -> str:
    return next((a.partition("=")[2] or b for a, b in pairwise([*sys.argv, ""]) if re.match("--?config(=|$)", a)), "")


def run() -> None:
    """``main`` with errors of the user printed in one line; exit status 2."""
    with one_line_errors(DataError):
        app.run(main, flags_parser=_parse)


if __name__ == "__main__":
    run()
