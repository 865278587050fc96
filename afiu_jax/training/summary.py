"""What a run left out, from its beginning to its end, whatever stopped it in between: ``WORKDIR/summary.json``."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from afiu_jax.training.logging import read_metrics, write_json


def write_summary(workdir: Path, step: int, num_steps: int, left_out: Mapping[str, Mapping[str, str]]) -> str:
    """Writes the summary.

    Args:
        workdir: the run's folder, with its log.
        step: steps done.
        num_steps: steps that the configuration asks for.
        left_out: for each part of the data, what was left out when it was opened: why, by name.

    Returns:
        The counts in one line for people; empty if nothing was left out.
    """
    lines = read_metrics(workdir)
    skipped = {part: Counter() for part in left_out}
    for line in lines:
        if "skipped_records" in line:
            skipped[line["part"]].update(line["skipped_records"])
    nonfinite = [line["step"] for line in lines if "nonfinite" in line]
    summary = {
        "step": step,
        "num_steps": num_steps,
        "left_out": left_out,
        "skipped_records": skipped,
        "nonfinite_steps": nonfinite,
    }
    write_json(workdir / "summary.json", summary)
    counts = {
        "pairs left out": sum(map(len, left_out.values())),
        "records skipped while reading": sum(counter.total() for counter in skipped.values()),
        "steps that were not finite": len(nonfinite),
    }
    found = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"{found}: see {workdir / 'summary.json'}" if found else ""
