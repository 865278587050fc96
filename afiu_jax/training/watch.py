"""What goes wrong in single steps of a run: it stops, or goes on without them and writes down what it left out."""

from collections.abc import Sequence

import jax
import numpy as np
from rich.console import Console

from afiu_jax.errors import UserError
from afiu_jax.training.checkpoint import Checkpoints
from afiu_jax.training.logging import MetricsLog, SilentLog
from afiu_jax.training.schema import Resolved
from afiu_jax.training.step import Report

MOST_IN_A_ROW = 50
"""After so many steps in a row that are not finite a run stops in any case: the weights will not recover."""


class Watch:
    """Looks at the report of every step, and at the records that its batch lacks.

    With ``train.nonfinite = skip``, the step itself has left its state as it was (see ``make_train_step``). A run of
    several processes names records and reasons of the first one's part alone.

    Args:
        config: of the run.
        checkpoints: for the message that names the last good one.
        log: gets a line for every step with something left out, ``nonfinite`` or ``skipped_records``.
        console: gets a warning, once for each reason.
    """

    def __init__(self, config: Resolved, checkpoints: Checkpoints, log: MetricsLog | SilentLog, console: Console):
        self._skip = config["train"]["nonfinite"] == "skip"
        self._checkpoints, self._log, self._console = checkpoints, log, console
        self._looked_at, self._was_finite, self._in_a_row = 0, True, 0
        self._said: set[str] = set()

    def finite(self, step: int, report: Report, ids: Sequence[str]) -> bool:
        """Whether loss and gradient of a step are finite; a step may be asked for again while it is the last.

        Raises:
            UserError: they are not, and the run shall stop, or it was so for too many steps in a row.
        """
        if step != self._looked_at:
            self._looked_at, self._was_finite = step, self._look(step, report, ids)
        return self._was_finite

    def missing(self, step: int, part: str, reasons: Sequence[str]) -> None:
        """Notes which records of ``data.<part>`` could not be read, if any."""
        if not reasons:
            return
        self._log.event(step, skipped_records=list(reasons), part=part)
        for reason in set(reasons) - self._said:
            self._warn(f"skipped a record of data.{part} from step {step} on: {reason}")
        self._said.update(reasons)

    def _look(self, step: int, report: Report, ids: Sequence[str]) -> bool:
        values = {"loss": float(report.loss), "gradient": float(report.gradient_norm)}
        what = next((name for name, value in values.items() if not np.isfinite(value)), None)
        if what is None:
            self._in_a_row = 0
            return True
        self._in_a_row += 1
        own = " of the first process's part" if jax.process_count() > 1 else ""
        found = f"the {what} of step {step} is {values[what]} on records {', '.join(ids)}{own}"
        if not self._skip or self._in_a_row == MOST_IN_A_ROW:
            kept = self._checkpoints.latest_step
            saved = f"the checkpoint of step {kept} is kept" if kept is not None else "no checkpoint was written yet"
            many = f", as of the {MOST_IN_A_ROW - 1} steps before" if self._skip else ""
            other = "" if kept is None else ", in another --workdir with --init_from this one"
            raise UserError(f"{found}{many}; {saved}: look at these records, or lower train.learning_rate{other}")
        self._log.event(step, nonfinite=what, records=list(ids))
        self._warn(f"skipped a step: {found}")
        return False

    def _warn(self, text: str) -> None:
        self._console.print(f"warning: {text}", style="yellow")
