"""``afiu models``: the networks side by side."""

from rich.console import Group
from rich.table import Table

from afiu_jax.layers import count_parameters
from afiu_jax.networks import NETWORKS, abstract_model
from afiu_jax.networks.program import multiply_adds
from afiu_jax.networks.published import PUBLISHED

_SIDE = 320


def networks_table() -> Group:
    """Every network with its size, its cost and its source, and below which weights can be imported."""
    networks = Table("network", "from", title="Networks", title_justify="left")
    for column in ("parameters", "GFLOPs"):
        networks.add_column(column, justify="right")
    networks.add_column("takes heights and widths")
    weights = Table("network", "takes", title="afiu import-weights", title_justify="left")
    for name, network in NETWORKS.items():
        model = abstract_model(name)
        side = min(network.sizes.nearest(_SIDE), key=lambda side: abs(side - _SIDE))
        cost = f"{multiply_adds(model, side) / 1e9:.1f}" + (f" at {side}" if side != _SIDE else "")
        sizes = str(network.sizes).removeprefix("heights and widths ")
        published = PUBLISHED.get(name)  # None for a network that somebody added
        source = f"{published.title}, {published.paper}" if published else ""
        networks.add_row(name, source, f"{count_parameters(model):,}", cost, sizes)
        if published:
            weights.add_row(name, published.weights)
    networks.caption = (
        f"parameters: trainable ones. GFLOPs: convolutions and matrix products for one image of {_SIDE}×{_SIDE}; "
        "a multiplication with its addition counts once, as papers on salient objects count (GMACs)."
    )
    networks.caption_justify = "left"
    return Group(networks, weights)
