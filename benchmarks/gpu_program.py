"""Compiles the training step for GPUs, present or not, and says what the program needs and consists of.

    python benchmarks/gpu_program.py [--cards 2080ti a100 h100] [--dtype bfloat16] [--devices 8] [--json found.json]

It needs the CUDA wheels (`uv sync --extra cuda12`, or an environment of its own), no driver and no card. Memory is what
XLA plans: arguments and temporaries; scratch memory of convolutions is chosen on a real card and is not in it. With
several devices, which share the batch, it is that of one of them. On a machine with a card, `gpu_run.py` runs a step of
one device on it first and says how long it takes and how busy the card is.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from gpu_cards import CARDS, Card
from gpu_hlo import summarise
from gpu_run import cards
from gpu_step import OPTIONS, add_options, cost_per_image, make_step

sys.path.insert(0, str(Path(__file__).parents[1]))

from afiu_jax.errors import one_line_errors


def compile_step(card: Card, arguments: argparse.Namespace) -> dict:
    """Memory and make-up of the training step of a network, compiled for a card."""
    import jax
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    devices = f"1x1x{arguments.devices}"  # of one machine
    topology = topologies.get_topology_desc("", platform="cuda", target_config=card.target(), topology=devices)
    mesh = Mesh(np.asarray(topology.devices), ("data",))
    step, new_state, batch = make_step(arguments, place=NamedSharding(mesh, PartitionSpec()))
    state = jax.eval_shape(new_state)

    def placed(tree, *spec):
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)

    began = time.monotonic()
    compiled = step.lower(placed(state), *placed(batch, "data")).compile()
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
        **summarise(compiled.as_text(), [leaf.shape for leaf in jax.tree.leaves(state.params) if len(leaf.shape) == 4]),
        "seconds_to_compile_here": seconds,
    }


def run_step(arguments: argparse.Namespace) -> dict | None:
    """The same step on this machine's card, by ``gpu_run.py`` in a process of its own; None if that failed."""
    given = {name.replace("_", "-"): getattr(arguments, name) for name in OPTIONS}
    flags = [
        f"--{name}" if value is True else f"--{name}={value}" for name, value in given.items() if value is not False
    ]
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "run.json"
        command = [sys.executable, Path(__file__).with_name("gpu_run.py"), *flags, f"--json={found}"]
        if subprocess.run(command).returncode:
            return None
        return json.loads(found.read_text(encoding="utf-8"))


def show(result: dict) -> None:
    """One card as text."""
    memory = {name: f"{size / 1e9:.2f} GB" for name, size in result["memory"].items()}
    print(f"{result['card']}")
    print(f"  memory: {', '.join(f'{name} {size}' for name, size in memory.items())}")
    print(f"  convolutions: {sum(result['convolutions'].values())}: {result['convolutions']}")
    print(f"  fusions: {result['fusions']}")
    print(f"  transposes beside convolutions: {result['transposes_by_convolutions']}")
    print(f"  all-reduces: {result['all_reduces']}")
    traffic = {kind: round(size / 1e9, 2) for kind, size in result["bytes_at_convolutions"].items()}
    print(f"  GB of activations that convolutions read and write: {traffic}")
    print(f"  GB that all kernels read and write, each array once: {result['bytes_of_kernels'] / 1e9:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cards", nargs="+", choices=CARDS, default=list(CARDS))
    add_options(parser)
    parser.add_argument("--devices", type=int, default=1, help="cards of one machine, to compile for")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--hlo", type=Path, help="folder for the text of the programs")
    arguments = parser.parse_args()
    if arguments.devices < 1 or arguments.batch_size % (arguments.devices * arguments.accumulate):
        parts = f" in {arguments.accumulate} parts" if arguments.accumulate > 1 else ""
        raise ValueError(f"{arguments.devices} devices cannot share a batch of {arguments.batch_size} equally{parts}")
    # First, before this process, too, holds memory of a card; on one, so not what several share.
    here = cards() if arguments.devices == 1 else []
    measured = run_step(arguments) if here else None
    if importlib.util.find_spec("jax_cuda12_plugin") is None:
        print("skipped: the CUDA wheels are missing; install them with `uv sync --extra cuda12`")
        return
    # Read when JAX is first imported: the wheels without a driver, and no kernels tried out on a card.
    os.environ.update(JAX_SKIP_CUDA_CONSTRAINTS_CHECK="1", JAX_PLATFORMS="cpu,cuda")
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"
    results = [compile_step(CARDS[card], arguments) for card in arguments.cards]
    what = {name: getattr(arguments, name) for name in (*OPTIONS, "devices")}
    versions = {name: version(name) for name in ("jax", "jax-cuda12-plugin", "nvidia-cudnn-cu12")}
    cost = cost_per_image(arguments)
    print(f"compiled: {what}, {versions}")
    print(f"per image, before fusion: {', '.join(f'{size / 1e9:.1f} G {name}' for name, size in cost.items())}")
    for result in results:
        show(result)
    if not here:
        print("not run: no card here" if arguments.devices == 1 else "not run: only steps of one device are")
    if arguments.json:
        report = {"what": what, "versions": versions, "cost_per_image": cost, "cards": results, "measured": measured}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if here and not measured:
        sys.exit("the step could not be run on the card: see above")


if __name__ == "__main__":
    with one_line_errors(ValueError):
        main()
