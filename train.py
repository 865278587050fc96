"""Trains a network: ``python train.py --config configs/sod.py [--workdir DIR] [--init_from DIR] [--config.a.b=value]``.

Only flags live here; the run is ``afiu_jax.training.loop.train_and_evaluate``.
"""

import re
import signal
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from afiu_jax.errors import UserError
from input_pipeline.records import DataError

# New attributes are accepted here and checked against the schema afterwards: a network's options are not known yet.
CONFIG = config_flags.DEFINE_config_file("config", None, lock_config=False, accept_new_attributes=True)
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; runs/<config>[-<variant>] unless told")
INIT_FROM = flags.DEFINE_string("init_from", None, "workdir (best checkpoint, else last) or checkpoints/<step>")


def main(argv: list[str]) -> None:
    """Runs the training that the flags ask for."""
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}: write --flag=value")
    if CONFIG.value is None:
        raise UserError("no configuration: pass --config configs/sod.py (or configs/dbd.py)")
    logging.set_verbosity(logging.ERROR)  # Orbax reports every file that it writes
    # JAX takes seconds to import; wrong flags are answered before that.
    from afiu_jax.training.loop import train_and_evaluate

    outcome = train_and_evaluate(CONFIG.value, WORKDIR.value or _default_workdir(), INIT_FROM.value)
    if outcome.stopped_by:
        sys.exit(128 + signal.Signals[outcome.stopped_by])


def _default_workdir() -> str:
    """``runs/sod`` for configs/sod.py, ``runs/sod-demo`` for configs/sod.py:demo."""
    path, _, variant = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
    name = re.sub(r".*configs/|\.py$", "", path)
    return f"runs/{name}-{variant}" if variant else f"runs/{name}"


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(f"wrong flags: {' '.join(str(error).split())}") from error


def run() -> None:
    """``main`` with errors of the user printed in one line; exit status 2."""
    try:
        app.run(main, flags_parser=_parse)
    except (UserError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    run()
