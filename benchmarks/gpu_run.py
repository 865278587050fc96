"""Runs the training step on this machine's GPU and says how long it takes and how busy the card is.

    python benchmarks/gpu_run.py [--dtype bfloat16] [--batch-size 8] [--remat --layouts] [--json gpu_run.json]

`gpu_program.py` runs it where it finds a card. Of several cards it takes the first that `CUDA_VISIBLE_DEVICES` names.
Steps follow each other without waiting for the host, as in training, on one batch that lies on the card. How busy the
card is comes from `nvidia-smi`: the share of time in which it computed at all. Operations are those of XLA's cost
analysis for the whole batch at once, without remat, whatever the step repeats; which share of the card's peak they are,
its data sheet says.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from math import ceil
from pathlib import Path

from gpu_step import OPTIONS, add_options, cost_per_image, make_step
from rounds import count

sys.path.insert(0, str(Path(__file__).parents[1]))

from afiu_jax.errors import one_line_errors


def cards() -> list[str]:
    """Names of this machine's cards, as its driver gives them; none without a driver."""
    try:
        done = subprocess.run(_question("name"), capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


class Busy:
    """How busy a card is while a block runs, for programs that keep it busy for seconds.

    Attributes:
        share: in 0…1, of the time since a second after the block began; None if the driver did not say.
    """

    def __init__(self, card: str):
        self.share = None
        self._command = [*_question("utilization.gpu"), f"--id={card}", "--loop-ms=200"]
        self._process = None

    def __enter__(self) -> "Busy":
        with suppress(OSError):
            self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.terminate()
            shares = self._process.communicate()[0].split()[5:]  # the driver's own figure is of up to a second before
            if shares and all(share.isdigit() for share in shares):
                self.share = statistics.mean(map(float, shares)) / 100


def measure(arguments: argparse.Namespace, card: str) -> dict:
    """Seconds of compiling and of a step, how busy the card is meanwhile, and its memory."""
    import jax
    import numpy as np

    from afiu_jax.training.layouts import in_own_layouts

    device = jax.devices()[0]
    if device.platform != "gpu" and os.environ.get("JAX_PLATFORMS") != "cpu":
        raise ValueError(f"JAX finds no GPU here, but {device.device_kind}: install afiu_jax[cuda12], see README.md")
    step, new_state, batch = make_step(arguments, platform=device.platform)
    whole = argparse.Namespace(**{**vars(arguments), "accumulate": 1, "remat": False})
    operations = cost_per_image(whole)["flops"] * arguments.batch_size
    step = in_own_layouts(step) if arguments.layouts else step
    random = np.random.default_rng(0)
    images, masks = (jax.device_put(random.random(array.shape, np.float32), device) for array in batch)
    state = jax.block_until_ready(jax.device_put(new_state(), device))  # placed as the step returns it

    def run(count: int) -> float:
        nonlocal state
        began = time.perf_counter()
        for _ in range(count):
            state, report = step(state, images, masks)
        jax.block_until_ready((state, report))
        return (time.perf_counter() - began) / count

    first = run(1)
    count = ceil(arguments.seconds / run(3))
    with Busy(card) as busy:
        seconds = [run(count) for _ in range(arguments.rounds)]
    step_seconds = statistics.median(seconds)
    return {
        "device": device.device_kind,
        "steps": count,
        "first_step_seconds": first,
        "step_seconds": step_seconds,
        "step_seconds_range": [min(seconds), max(seconds)],
        "images_per_second": arguments.batch_size / step_seconds,
        "teraflops_per_second": operations / step_seconds / 1e12,
        "busy": busy.share,
        "peak_memory": (device.memory_stats() or {}).get("peak_bytes_in_use"),
    }


def show(result: dict) -> None:
    """A measurement as text."""
    low, high = result["step_seconds_range"]
    print(f"measured on {result['device']}, medians of rounds of {result['steps']} steps")
    print(f"  first step, with compilation: {result['first_step_seconds']:.1f} s")
    print(f"  step: {1000 * result['step_seconds']:.1f} ms ({1000 * low:.1f}…{1000 * high:.1f})")
    print(f"  {result['images_per_second']:.1f} images/s, {result['teraflops_per_second']:.2f} TFLOP/s")
    print(f"  busy: {'not known' if result['busy'] is None else format(result['busy'], '.0%')}")
    if result["peak_memory"]:
        print(f"  memory, at most, with what trying out algorithms took: {result['peak_memory'] / 1e9:.2f} GB")


def _question(what: str) -> list[str]:
    return ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a round")
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    # One card, which JAX and the driver's program call by the same name.
    card = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    os.environ.update(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_VISIBLE_DEVICES=card)
    what = {name: getattr(arguments, name) for name in OPTIONS}
    result = measure(arguments, card)
    print(what)
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps({"what": what, **result}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    with one_line_errors(ValueError):
        main()
