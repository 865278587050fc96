"""The parameter table that a run prints at its start; it reads like Figure 4 of the paper."""

from flax import nnx
from rich.table import Table

from afiu_jax.layers import count_parameters


def parameter_table(model: nnx.Module, name: str) -> Table:
    """Trainable parameters of every top-level sub-module, in the network's own order."""
    table = Table("module", title=f"{name}: {count_parameters(model):,} trainable parameters")
    table.add_column("parameters", justify="right")
    table.add_column("share", justify="right")
    total = count_parameters(model)
    for attribute, module in vars(model).items():
        if isinstance(module, nnx.Module):
            count = count_parameters(module)
            table.add_row(attribute, f"{count:,}", f"{count / total:.1%}")
    return table
