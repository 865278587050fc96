"""Runs the training step on this machine's GPU and says how long it takes and how busy the card is.

    python benchmarks/gpu_run.py [--dtype bfloat16] [--batch-size 8] [--remat --layouts] [--json gpu_run.json]

`gpu_program.py` runs it where it finds a card. Steps follow each other without waiting for the host, as in training, on
one batch that lies on the card. How busy the card is comes from `nvidia-smi`: the share of time in which it computed
at all. Operations are those of XLA's cost analysis; which share of the card's peak that is, its data sheet says.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from gpu_step import OPTIONS, add_options, cost_per_image, make_step

sys.path.insert(0, str(Path(__file__).parents[1]))


def cards() -> list[str]:
    """Names of this machine's cards, as its driver gives them."""
    return _ask("name")


def measure(arguments: argparse.Namespace) -> dict:
    """Seconds of compiling and of a step, what the card is doing meanwhile, and its memory."""
    import jax
    import numpy as np

    from afiu_jax.training.layouts import in_own_layouts

    device = jax.devices()[0]
    step, new_state, batch = make_step(arguments, platform=device.platform)
    step = in_own_layouts(step) if arguments.layouts else step
    random = np.random.default_rng(0)
    images, masks = (jax.device_put(random.random(array.shape, np.float32), device) for array in batch)
    state = jax.block_until_ready(jax.device_put(new_state(), device))  # placed as the step returns it
    began = time.perf_counter()
    state, _ = jax.block_until_ready(step(state, images, masks))
    first = time.perf_counter() - began
    seconds, busy = [], []
    for _ in range(arguments.rounds):
        with Busy() as watch:
            began = time.perf_counter()
            for _ in range(arguments.steps):
                state, report = step(state, images, masks)
            loss = float(report.loss)
            jax.block_until_ready(state)
            seconds.append((time.perf_counter() - began) / arguments.steps)
        busy.extend(watch.shares)
    step_seconds = statistics.median(seconds)
    operations = cost_per_image(arguments)["flops"] * arguments.batch_size
    memory = device.memory_stats() or {}
    return {
        "device": device.device_kind,
        "cards": cards(),
        "first_step_seconds": first,
        "step_seconds": step_seconds,
        "step_seconds_range": [min(seconds), max(seconds)],
        "images_per_second": arguments.batch_size / step_seconds,
        "teraflops_per_second": operations / step_seconds / 1e12,
        "busy": statistics.mean(busy) if busy else None,
        "peak_memory": memory.get("peak_bytes_in_use"),
        "loss": loss,
    }


class Busy:
    """How busy the card is while a block runs: ``shares`` in 0…1, some ten a second; none without a driver."""

    def __enter__(self) -> "Busy":
        self.shares = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.1) and (found := _ask("utilization.gpu", "--id=0")):
            self.shares.extend(float(share) / 100 for share in found)


def _ask(what: str, *options: str) -> list[str]:
    """What the driver's program answers, a line for each card; nothing if there is no driver or no card."""
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


def show(result: dict) -> None:
    """A measurement as text."""
    low, high = result["step_seconds_range"]
    print(f"measured on {result['device']}")
    print(f"  first step, with compilation: {result['first_step_seconds']:.1f} s")
    print(f"  step: {1000 * result['step_seconds']:.1f} ms ({1000 * low:.1f}…{1000 * high:.1f})")
    print(f"  {result['images_per_second']:.1f} images/s, {result['teraflops_per_second']:.2f} TFLOP/s")
    print(f"  busy: {'not known' if result['busy'] is None else format(result['busy'], '.0%')}")
    if result["peak_memory"]:
        print(f"  memory, at most: {result['peak_memory'] / 1e9:.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--steps", type=int, default=20, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    what = {name: getattr(arguments, name) for name in OPTIONS}
    result = measure(arguments)
    print(f"{what}, {arguments.rounds} rounds of {arguments.steps} steps")
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps({"what": what, **result}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
