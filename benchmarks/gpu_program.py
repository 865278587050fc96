"""Compiles the training step for a GPU, on a machine that has none, and says what the program needs and consists of.

    python benchmarks/gpu_program.py [--cards 2080ti a100 h100] [--dtype bfloat16] [--json gpu_program.json]

It needs the CUDA wheels (`uv sync --extra cuda12`, or an environment of its own), no driver and no card. Memory is what
XLA plans: arguments and temporaries; scratch memory of convolutions is chosen on a real card and is not in it. Nothing
here is a time.
"""

import argparse
import importlib.util
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

from gpu_cards import CARDS, Card
from gpu_hlo import summarise

sys.path.insert(0, str(Path(__file__).parents[1]))


def make_step(arguments: argparse.Namespace):
    """The training step, its abstract state and batch, and the shapes of the kernels."""
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
    model = nnx.eval_shape(lambda: create_model(network, **options))
    optimizer = create_optimizer(base_config().to_dict())
    state = jax.eval_shape(lambda: create_state(model, optimizer))
    step = make_train_step(
        graph_of(model, training=True, platform="gpu"),
        LOSSES[DEFAULT_LOSS[network]],
        optimizer,
        accumulate=arguments.accumulate,
        remat=arguments.remat,
        layouts=arguments.layouts,
        platform="gpu",
    )
    pictures = (arguments.batch_size, arguments.size, arguments.size)
    batch = [jax.ShapeDtypeStruct((*pictures, channels), "float32") for channels in (3, 1)]
    return step, (state, *batch), [leaf.shape for leaf in jax.tree.leaves(state.params) if len(leaf.shape) == 4]


def compile_step(card: Card, arguments: argparse.Namespace) -> dict:
    """Memory and make-up of the training step of a network, compiled for a card."""
    import jax
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    topology = topologies.get_topology_desc("", platform="cuda", target_config=card.target(), topology="1x1x1")
    everywhere = NamedSharding(Mesh(np.asarray(topology.devices), ("data",)), PartitionSpec())
    step, inputs, kernels = make_step(arguments)
    placed = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=everywhere), inputs)
    began = time.monotonic()
    compiled = step.lower(*placed).compile()
    seconds = time.monotonic() - began
    if arguments.hlo:
        arguments.hlo.mkdir(parents=True, exist_ok=True)
        (arguments.hlo / f"{card.name}.txt").write_text(compiled.as_text(), encoding="utf-8")
    memory = compiled.memory_analysis()
    fresh = memory.output_size_in_bytes - memory.alias_size_in_bytes  # donated arguments are the results' memory
    return {
        "card": card.name,
        "memory": {
            "arguments": memory.argument_size_in_bytes,
            "temporaries": memory.temp_size_in_bytes,
            "results": fresh,
            "total": memory.argument_size_in_bytes + memory.temp_size_in_bytes + fresh,
        },
        **summarise(compiled.as_text(), kernels),
        "seconds_to_compile_here": seconds,
    }


def cost_per_image(arguments: argparse.Namespace) -> dict[str, float]:
    """Floating-point operations and bytes of a step by XLA's cost analysis, before fusion: bytes are an upper bound."""
    step, inputs, _ = make_step(arguments)
    cost = step.lower(*inputs).cost_analysis()
    return {name: cost[name] / arguments.batch_size for name in ("flops", "bytes accessed")}


def show(result: dict) -> None:
    """One card as text."""
    memory = {name: f"{size / 1e9:.2f} GB" for name, size in result["memory"].items()}
    print(f"{result['card']}")
    print(f"  memory: {', '.join(f'{name} {size}' for name, size in memory.items())}")
    print(f"  convolutions: {sum(result['convolutions'].values())}: {result['convolutions']}")
    print(f"  fusions: {result['fusions']}")
    print(f"  transposes beside convolutions: {result['transposes_by_convolutions']}")
    traffic = {kind: round(size / 1e9, 2) for kind, size in result["bytes_at_convolutions"].items()}
    print(f"  GB of activations that convolutions read and write: {traffic}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cards", nargs="+", choices=CARDS, default=list(CARDS))
    parser.add_argument("--network", default="afiu")
    parser.add_argument("--small", action="store_true", help="the network's small preset")
    parser.add_argument("--dtype", default="float32", help="compute type; weights stay float32")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--remat", action="store_true", help="as train.remat")
    parser.add_argument("--layouts", action="store_true", help="as train.layouts")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--hlo", type=Path, help="folder for the text of the programs")
    arguments = parser.parse_args()
    if importlib.util.find_spec("jax_cuda12_plugin") is None:
        print("skipped: the CUDA wheels are missing; install them with `uv sync --extra cuda12`")
        return
    # Read when JAX is first imported: the wheels without a driver, and no kernels tried out on a card.
    os.environ.update(JAX_SKIP_CUDA_CONSTRAINTS_CHECK="1", JAX_PLATFORMS="cpu,cuda")
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"
    results = [compile_step(CARDS[card], arguments) for card in arguments.cards]
    what = {key: value for key, value in vars(arguments).items() if key not in ("cards", "json", "hlo")}
    versions = {name: version(name) for name in ("jax", "jax-cuda12-plugin", "nvidia-cudnn-cu12")}
    cost = cost_per_image(arguments)
    print(f"compiled, not run: {what}, {versions}")
    print(f"per image, before fusion: {', '.join(f'{size / 1e9:.1f} G {name}' for name, size in cost.items())}")
    for result in results:
        show(result)
    if arguments.json:
        report = {"what": what, "versions": versions, "cost_per_image": cost, "cards": results}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
