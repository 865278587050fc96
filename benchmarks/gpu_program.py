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

from gpu_cards import CARDS, GIB, Card
from gpu_hlo import summarise

sys.path.insert(0, str(Path(__file__).parents[1]))


def compile_step(card: Card, arguments: argparse.Namespace) -> dict:
    """Memory and make-up of the training step of a network, compiled for a card."""
    import jax
    import numpy as np
    from flax import nnx
    from jax.experimental import topologies
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from afiu_jax import create_model
    from afiu_jax.losses import DEFAULT_LOSS, LOSSES
    from afiu_jax.networks import NETWORKS
    from afiu_jax.training.config import base_config
    from afiu_jax.training.optimizer import create_optimizer
    from afiu_jax.training.state import create_state, graph_of
    from afiu_jax.training.step import make_train_step

    topology = topologies.get_topology_desc("", platform="cuda", target_config=card.target(), topology="1x1x1")
    everywhere = NamedSharding(Mesh(np.asarray(topology.devices), ("data",)), PartitionSpec())
    placed = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=everywhere)  # noqa: E731

    network = arguments.network
    options = dict(NETWORKS[network].presets["small"]) if arguments.small else {}
    if arguments.dtype != "float32":
        options["dtype"] = arguments.dtype
    model = nnx.eval_shape(lambda: create_model(network, **options))
    optimizer = create_optimizer(base_config().to_dict())
    state = jax.eval_shape(lambda: create_state(model, optimizer))
    kernels = [leaf.shape for leaf in jax.tree.leaves(state.params) if len(leaf.shape) == 4]
    step = make_train_step(
        graph_of(model, training=True), LOSSES[DEFAULT_LOSS[network]], optimizer, accumulate=arguments.accumulate
    )
    pictures = (arguments.batch_size, arguments.size, arguments.size)
    batch = (placed(jax.ShapeDtypeStruct((*pictures, channels), "float32")) for channels in (3, 1))

    began = time.monotonic()
    lowered = step.lower(jax.tree.map(placed, state), *batch)
    lowered_after = time.monotonic() - began
    compiled = lowered.compile()
    memory = compiled.memory_analysis()
    cost = lowered.cost_analysis() or {}
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
        "flops_per_image": cost.get("flops", 0) / arguments.batch_size,
        "seconds_on_this_machine": {"lower": lowered_after, "compile": time.monotonic() - began - lowered_after},
    }


def show(result: dict) -> None:
    """One card as text."""
    memory = {name: f"{size / GIB:.2f} GiB" for name, size in result["memory"].items()}
    print(f"{result['card']}")
    print(f"  memory: {', '.join(f'{name} {size}' for name, size in memory.items())}")
    print(f"  convolutions: {sum(result['convolutions'].values())}: {result['convolutions']}")
    print(f"  fusions: {result['fusions']}")
    print(f"  transposes beside convolutions: {result['transposes_by_convolutions']}")
    print(f"  GiB that convolutions read and write: "
          f"{ {kind: round(size / GIB, 2) for kind, size in result['bytes_at_convolutions'].items()} }")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cards", nargs="+", choices=CARDS, default=list(CARDS))
    parser.add_argument("--network", default="afiu")
    parser.add_argument("--small", action="store_true", help="the network's small preset")
    parser.add_argument("--dtype", default="float32", help="compute type; weights stay float32")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if importlib.util.find_spec("jax_cuda12_plugin") is None:
        print("skipped: the CUDA wheels are missing; install them with `uv sync --extra cuda12`")
        return
    # Read when JAX is first imported: the wheels without a driver, and no kernels tried out on a card.
    os.environ.update(JAX_SKIP_CUDA_CONSTRAINTS_CHECK="1", JAX_PLATFORMS="cpu,cuda")
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"
    results = [compile_step(CARDS[card], arguments) for card in arguments.cards]
    what = {key: value for key, value in vars(arguments).items() if key not in ("cards", "json")}
    versions = {name: version(name) for name in ("jax", "jax-cuda12-plugin", "nvidia-cudnn-cu12")}
    print(f"compiled, not run: {what}, {versions}")
    for result in results:
        show(result)
    if arguments.json:
        report = {"what": what, "versions": versions, "cards": results}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
