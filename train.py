"""Trains a network: ``python train.py --config configs/sod.py [--workdir DIR] [--init_from DIR] [--config.a.b=value]``.

Only flags live here; the run is ``afiu_jax.training.loop.train_and_evaluate``.
"""

import signal
from functools import partial

from absl import app, flags
from ml_collections import config_flags

from afiu_jax.console import quiet_orbax
from afiu_jax.errors import UserError, leave, one_line_errors
from afiu_jax.garbage import collect_seldom
from afiu_jax.training.flags import default_workdir, define_config, parse
from afiu_jax.training.hosts import join_hosts
from afiu_jax.training.kept_steps import KeptSteps
from input_pipeline.records import DataError

CONFIG = define_config(flags.FLAGS)
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; runs/<config>[-<variant>] unless told")
COORDINATOR = flags.DEFINE_string("coordinator", None, "address host:port of the first of several processes, or auto")
PROCESSES = flags.DEFINE_integer("processes", None, "number of processes that share the run")
PROCESS = flags.DEFINE_integer("process", None, "which of them this is, from 0")
INIT_FROM = flags.DEFINE_string("init_from", None, "workdir (best checkpoint, else last), step, file or name")


def main(argv: list[str]) -> None:
    """Runs the training that the flags ask for."""
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}: write --flag=value")
    if CONFIG.value is None:
        raise UserError("no configuration: pass --config configs/sod.py (or configs/dbd.py)")
    quiet_orbax()
    join_hosts(COORDINATOR.value, PROCESSES.value, PROCESS.value)
    config_file = config_flags.get_config_filename(flags.FLAGS["config"])
    workdir = WORKDIR.value or default_workdir(config_file)
    kept_steps = KeptSteps.beside_programs(config_file)
    if kept_steps:
        kept_steps = kept_steps.with_head_start(CONFIG.value, INIT_FROM.value)
    from afiu_jax.training.loop import train_and_evaluate  # not above: it takes a second, in which the step is read

    outcome = train_and_evaluate(CONFIG.value, workdir, INIT_FROM.value, kept_steps=kept_steps)
    leave(128 + signal.Signals[outcome.stopped_by] if outcome.stopped_by else 0)


def run() -> None:
    """``main`` with errors of the user printed in one line; exit status 2."""
    collect_seldom()
    with one_line_errors(DataError):
        app.run(main, flags_parser=partial(parse, values=flags.FLAGS, config=CONFIG))


if __name__ == "__main__":
    run()
