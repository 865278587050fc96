"""The parameter table that a run prints at its start; it reads like Figure 4 of the paper."""

from collections import Counter

from flax import nnx
from rich.table import Table


def parameter_table(model: nnx.Module, name: str) -> Table:
    """Trainable parameters of every top-level sub-module that has any, in the network's own order."""
    counts = Counter()
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        counts[path[0]] += variable.size
    total = counts.total()
    table = Table("module", title=f"{name}: {total:,} trainable parameters")
    table.add_column("parameters", justify="right")
    table.add_column("share", justify="right")
    for attribute in vars(model):
        if attribute in counts:
            table.add_row(attribute, f"{counts[attribute]:,}", f"{counts[attribute] / total:.1%}")
    return table
