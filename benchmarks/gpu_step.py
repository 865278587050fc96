"""The training step whose GPU program is compiled, and on a card run: which network, how large a batch."""

import argparse

OPTIONS = ("network", "small", "dtype", "batch_size", "size", "accumulate", "remat", "layouts")
"""Of the command line: what a step is."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What a step is, for the command line."""
    parser.add_argument("--network", default="afiu")
    parser.add_argument("--small", action="store_true", help="the network's small preset")
    types = ("float32", "bfloat16", "float16")
    parser.add_argument("--dtype", default="float32", choices=types, help="compute type; weights stay float32")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--remat", action="store_true", help="as train.remat")
    parser.add_argument("--layouts", action="store_true", help="as train.layouts")


def make_step(arguments: argparse.Namespace, platform: str = "gpu", place=None):
    """The training step; what makes its state, which lies in ``place``; and its abstract batch, images and masks.

    Raises:
        ValueError: no such network, preset or size, or a batch that cannot be shared so.
    """
    import jax

    from afiu_jax.losses import LOSSES
    from afiu_jax.networks import NETWORKS, abstract_model, create_model
    from afiu_jax.training.config import resolve
    from afiu_jax.training.optimizer import create_optimizer
    from afiu_jax.training.schema import base_config
    from afiu_jax.training.state import create_state, graph_of
    from afiu_jax.training.step import make_train_step

    network, size = arguments.network, (arguments.size, arguments.size)
    config = base_config()
    config.model.update(name=network, preset="small" if arguments.small else "", options={"dtype": arguments.dtype})
    config.data.image_size = arguments.size
    config.train.update(batch_size=arguments.batch_size, accumulate=arguments.accumulate)
    resolved = resolve(config)
    NETWORKS[network].sizes.require(size, network)
    options, optimizer = resolved["model"]["options"], create_optimizer(resolved)
    step = make_train_step(
        graph_of(abstract_model(network, **options), training=True, platform=platform),
        LOSSES[resolved["loss"]["name"]],
        optimizer,
        accumulate=arguments.accumulate,
        remat=arguments.remat,
        layouts=arguments.layouts,
        place=place,
        platform=platform,
    )
    batch = [jax.ShapeDtypeStruct((arguments.batch_size, *size, channels), "float32") for channels in (3, 1)]
    return step, lambda: create_state(create_model(network, **options), optimizer), batch


def cost_per_image(arguments: argparse.Namespace) -> dict[str, float]:
    """Floating-point operations and bytes of a step by XLA's cost analysis, before fusion: bytes are an upper bound.

    Raises:
        ValueError: JAX may not use the CPU.
    """
    import jax

    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise ValueError(f"a step's cost is analysed on the CPU: JAX_PLATFORMS=cuda,cpu ({error})") from None
    step, new_state, batch = make_step(arguments)
    with jax.default_device(cpu):  # a GPU's client has no such analysis
        cost = step.lower(jax.eval_shape(new_state), *batch).cost_analysis()
    return {name: cost[name] / arguments.batch_size for name in ("flops", "bytes accessed")}
