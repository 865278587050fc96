"""What a report says about training runs: their logs, their configurations, and where these differ."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flax.traverse_util import flatten_dict

from afiu_jax.errors import UserError
from afiu_jax.training.logging import read_metrics
from afiu_jax.training.schema import Resolved
from input_pipeline.paths import at_home


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
        name: as the report calls it.
        lines: of its ``metrics.jsonl``.
        config: its resolved configuration.
    """

    name: str
    lines: list[dict]
    config: Resolved

    @property
    def best(self) -> dict | None:
        """The line of the lowest validation MAE; None if the run was never validated."""
        return min((line for line in self.lines if "val_mae" in line), key=lambda line: line["val_mae"], default=None)

    @property
    def steps(self) -> int:
        """The last step that was logged."""
        return max((line["step"] for line in self.lines), default=0)

    @property
    def config_text(self) -> str:
        """The configuration as JSON, ready to be shown to others."""
        return without_home(json.dumps(self.config, indent=2, ensure_ascii=False))


def read_run(name: str, workdir: Path) -> Run:
    """Reads a run's log and configuration.

    Args:
        name: as the report calls it.
        workdir: its folder.

    Raises:
        UserError: the folder holds no run, or none that has logged anything.
    """
    workdir, path = at_home(workdir), at_home(workdir) / "config.json"
    if not path.exists():
        raise UserError(f"no run in {workdir} (config.json is missing): name the work directory of a training run")
    if not (lines := read_metrics(workdir)):
        raise UserError(f"the run in {workdir} has logged nothing yet (metrics.jsonl)")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return Run(name, lines, config)


def config_differences(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Keys of the configuration in which runs differ, each with its value in every run."""
    flat = [{".".join(key): value for key, value in flatten_dict(run.config).items()} for run in runs]
    keys = dict.fromkeys(key for config in flat for key in config)
    rows = [(key, [without_home(json.dumps(config.get(key), ensure_ascii=False)) for config in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def without_home(text: str) -> str:
    """The text without the name of the home folder, which is nobody's business where a page is put online."""
    home = Path.home()
    return text if home == home.parent else re.sub(rf"(?<![\w.~-]){re.escape(str(home))}(?![\w.-])", "~", text)
