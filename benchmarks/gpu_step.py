"""The training step whose GPU program is compiled, and on a card run: which network, how large a batch."""

import argparse

OPTIONS = ("network", "small", "dtype", "batch_size", "size", "accumulate", "remat", "layouts")
"""Of the command line: what a step is."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What a step is, for the command line."""
    parser.add_argument("--network", default="afiu")
    parser.add_argument("--small", action="store_true", help="the network's small preset")
    parser.add_argument("--dtype", default="float32", help="compute type; weights stay float32")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--remat", action="store_true", help="as train.remat")
    parser.add_argument("--layouts", action="store_true", help="as train.layouts")


def make_step(arguments: argparse.Namespace, platform: str = "gpu"):
    """The training step; what makes its state; and its abstract batch, images and masks."""
    import jax
    from flax import nnx

    from afiu_jax import create_model
    from afiu_jax.losses import DEFAULT_LOSS, LOSSES
    from afiu_jax.networks import NETWORKS
    from afiu_jax.training.config import base_config
    from afiu_jax.training.optimizer import create_optimizer
    from afiu_jax.training.state import create_state, graph_of
    from afiu_jax.training.step import make_train_step

    network = arguments.network
    options = dict(NETWORKS[network].presets["small"]) if arguments.small else {}
    if arguments.dtype != "float32":
        options["dtype"] = arguments.dtype
    optimizer = create_optimizer(base_config().to_dict())
    step = make_train_step(
        graph_of(nnx.eval_shape(lambda: create_model(network, **options)), training=True, platform=platform),
        LOSSES[DEFAULT_LOSS[network]],
        optimizer,
        accumulate=arguments.accumulate,
        remat=arguments.remat,
        layouts=arguments.layouts,
        platform=platform,
    )
    pictures = (arguments.batch_size, arguments.size, arguments.size)
    batch = [jax.ShapeDtypeStruct((*pictures, channels), "float32") for channels in (3, 1)]
    return step, lambda: create_state(create_model(network, **options), optimizer), batch


def cost_per_image(arguments: argparse.Namespace) -> dict[str, float]:
    """Floating-point operations and bytes of a step by XLA's cost analysis, before fusion: bytes are an upper bound."""
    import jax

    step, new_state, batch = make_step(arguments)
    cost = step.lower(jax.eval_shape(new_state), *batch).cost_analysis()
    return {name: cost[name] / arguments.batch_size for name in ("flops", "bytes accessed")}
