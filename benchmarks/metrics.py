"""Time to score 500 maps of 400x300 with every metric, ours against PySODMetrics on the same arrays and cores.

    python benchmarks/metrics.py ../shared/data/msra10k/val/masks --peer pysod/bin/python --json metrics.json

PySODMetrics has an environment of its own, see pysodmetrics_scores.py. The maps are made from real masks (coarsened,
with noise), so that distances and levels are like those of real maps; reading files is not timed. Ours and theirs take
turns; medians of the rounds are compared. PySODMetrics is a single thread; the last line lets two of it share the work.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from rounds import count, folder, interpreter

WIDTH, HEIGHT, COUNT = 400, 300, 500


def make_pairs(masks: Path) -> tuple[np.ndarray, np.ndarray]:
    """Maps and masks, uint8 ``[500, 300, 400]``."""
    random, maps, truths = np.random.default_rng(0), [], []
    for path in sorted(masks.iterdir())[:COUNT]:
        mask = Image.open(path).convert("L").resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)
        coarse = mask.resize((20, 15), Image.Resampling.BILINEAR).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
        noisy = 0.8 * np.asarray(coarse, float) + random.normal(10, 10, (HEIGHT, WIDTH))
        maps.append(np.clip(noisy, 0, 255).astype(np.uint8))
        truths.append(np.where(np.asarray(mask) >= 128, 255, 0).astype(np.uint8))
    return np.stack(maps), np.stack(truths)


def ours(maps: np.ndarray, truths: np.ndarray) -> tuple[float, dict[str, float]]:
    """Seconds and scores."""
    from afiu_jax.scoring import Scorer

    start = time.perf_counter()
    scorer = Scorer(normalize=True)
    for i, (found, truth) in enumerate(zip(maps, truths, strict=True)):
        scorer.add(str(i), found, truth >= 128)
    scores = scorer.finish("ours").scores
    return time.perf_counter() - start, scores


def theirs(maps: np.ndarray, truths: np.ndarray) -> dict[str, float]:
    """Scores by PySODMetrics; runs in its environment."""
    import warnings

    from pysodmetrics_scores import new_metrics, results, step

    warnings.filterwarnings("ignore")
    metrics = new_metrics()
    for found, truth in zip(maps, truths, strict=True):
        step(metrics, found, truth)
    return results(metrics)


def peer(pairs: Path) -> None:
    """What the subprocess does: times itself alone, then as two processes, and prints both with its scores."""
    with np.load(pairs) as arrays:
        maps, truths = arrays["maps"], arrays["truths"]
    start = time.perf_counter()
    scores = theirs(maps, truths)
    alone = time.perf_counter() - start
    halves = [(maps[i::2], truths[i::2]) for i in range(2)]
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(abs, range(2)))  # both are started before the clock is
        start = time.perf_counter()
        list(pool.map(theirs, *zip(*halves, strict=True)))
        shared = time.perf_counter() - start
    names = ("pysodmetrics", "numpy", "scipy")
    print(json.dumps({"alone": alone, "shared": shared, "scores": scores, "versions": {n: version(n) for n in names}}))


def main(masks: Path, python: str, rounds: int, out: Path | None) -> None:
    maps, truths = make_pairs(masks)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder  # an empty one: the first round compiles
        pairs = Path(folder) / "pairs.npz"
        np.savez(pairs, maps=maps, truths=truths)
        times = {"ours": [], "alone": [], "shared": []}
        with_compilation, _ = ours(maps, truths)
        for _ in range(rounds):
            done = subprocess.run([python, __file__, "--as-peer", pairs], capture_output=True, text=True, check=True)
            result = json.loads(done.stdout)
            seconds, scores = ours(maps, truths)
            for name, value in (("ours", seconds), ("alone", result["alone"]), ("shared", result["shared"])):
                times[name].append(value)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    difference = max(abs(scores[name] - value) for name, value in result["scores"].items())
    report = {
        "seconds": {**medians, "ours_with_compilation": with_compilation},
        "ratio": medians["alone"] / medians["ours"],
        "ratio_with_compilation": medians["alone"] / with_compilation,
        "ratio_to_two_processes": medians["shared"] / medians["ours"],
        "largest_difference_of_a_score": difference,
        "rounds": rounds,
        "cores": len(os.sched_getaffinity(0)),
        "versions": {**result["versions"], "jax": version("jax"), "python": platform.python_version()},
    }
    print(f"{COUNT} maps of {WIDTH}x{HEIGHT}, {report['cores']} cores, medians of {rounds} alternating rounds")
    print(f"ours                       {medians['ours']:7.2f} s")
    print(f"ours, first run, compiling {with_compilation:7.2f} s")
    print(f"PySODMetrics               {medians['alone']:7.2f} s   {report['ratio']:.1f} x ours")
    print(f"PySODMetrics, 2 processes  {medians['shared']:7.2f} s   {report['ratio_to_two_processes']:.1f} x ours")
    print(f"with compilation           {report['ratio_with_compilation']:.1f} x; scores differ by {difference:.1e}")
    if out:
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("masks", type=folder(), nargs="?", help="folder of at least 500 masks")
    parser.add_argument("--peer", type=interpreter, default=sys.executable, help="Python that has pysodmetrics")
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--as-peer", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.as_peer:
        peer(flags.as_peer)
    else:
        main(flags.masks, flags.peer, flags.rounds, flags.json)
