"""Time from a photo of 640x427 to its map on disk, and in a running program, ours against onnxruntime.

    uv run --extra export python benchmarks/predict.py [--photo photo.jpg] [--weights u2netp-dbd] [--json predict.json]

Both run the same network, which `afiu export` wrote as ONNX, on the same photo at the same size. A process is timed
from its start to its end: cold with an empty compilation cache, then once more with what the first left. One run of
each, not counted, comes first, as Python compiles the libraries then, if their installer did not. Ours and theirs take
turns; medians of the rounds are compared.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from rounds import count, environment

WIDTH, HEIGHT = 640, 427
REPEATS = 20


def make_photo(given: Path | None, path: Path) -> None:
    """A JPEG of 640x427: the given photo, resized, or a generated scene."""
    if given:
        picture = Image.open(given).convert("RGB")
    else:
        from input_pipeline.scenes import Scenes

        picture = Image.fromarray(Scenes("blur", split="test")[0]["image"])
    picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(path, quality=92)


def warm(predict, repeats: int = REPEATS) -> float:
    """Median seconds of a call, after one that is not counted."""
    predict()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        predict()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def ours_warm(photo: Path, weights: str) -> float:
    """Median seconds from the file to its map, in a running program."""
    import afiu_jax

    predictor = afiu_jax.load(weights)
    return warm(lambda: predictor.predict(photo))


def peer(model: Path, photo: Path, out: Path, repeats: int) -> None:
    """What the peer's process does: a map on disk and, if ``repeats``, the median seconds of a call."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    side = entry.shape[2]

    def predict() -> np.ndarray:
        image = Image.open(photo).convert("RGB")
        x = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), np.float32)
        x = (x / x.max() - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
        found = session.run(None, {entry.name: x.transpose(2, 0, 1)[None].astype(np.float32)})[0]
        small = Image.fromarray(np.rint(found.reshape(side, side) * 255).astype(np.uint8))
        return np.asarray(small.resize(image.size, Image.Resampling.BILINEAR))

    Image.fromarray(predict()).save(out)
    print(warm(predict, repeats) if repeats else 0)


def process_seconds(command: list, **changes: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment(**changes))
    return time.perf_counter() - start


def main(given: Path | None, weights: str, rounds: int, out: Path | None) -> None:
    from afiu_jax.export import export

    times: dict[str, list[float]] = {name: [] for name in ("cold", "cached", "warm", "peer_cold", "peer_warm")}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photo, model, found = folder / "photo.jpg", folder / "model.onnx", folder / "peer.png"
        make_photo(given, photo)
        export(weights, model, "onnx")
        ours = [sys.executable, "-m", "afiu_jax.cli", "predict", photo, "--weights", weights, "-o", folder / "ours.png"]
        theirs = [sys.executable, __file__, "--as-peer", model, photo, found]
        process_seconds(ours, JAX_COMPILATION_CACHE_DIR=str(folder / "cache"))
        process_seconds([*theirs, "0"])
        for i in range(rounds):
            cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / f"cache{i}")}
            times["cold"].append(process_seconds(ours, **cache))
            times["peer_cold"].append(process_seconds([*theirs, "0"]))
            times["cached"].append(process_seconds(ours, **cache))
            times["warm"].append(ours_warm(photo, weights))
            done = subprocess.run([*theirs, str(REPEATS)], check=True, capture_output=True, text=True)
            times["peer_warm"].append(float(done.stdout))
        levels = [np.asarray(Image.open(path), np.float32) for path in (folder / "ours.png", found)]
    seconds = {name: float(np.median(values)) for name, values in times.items()}
    report = {
        "weights": weights,
        "seconds": seconds,
        "ratio_warm": seconds["peer_warm"] / seconds["warm"],
        "ratio_cold": seconds["peer_cold"] / seconds["cold"],
        "mean_difference_of_the_maps": float(np.abs(levels[0] - levels[1]).mean() / 255),
        "rounds": rounds,
        "cores": len(os.sched_getaffinity(0)),
        "versions": {"python": platform.python_version(), **{n: version(n) for n in ("jax", "onnxruntime")}},
    }
    print(f"{weights}, one photo of {WIDTH}x{HEIGHT}, {report['cores']} cores, medians of {rounds} alternating rounds")
    print(f"afiu predict, start to map, empty compilation cache  {seconds['cold']:6.2f} s")
    print(f"afiu predict, start to map, what that left in cache  {seconds['cached']:6.2f} s")
    print(f"onnxruntime, start to map                            {seconds['peer_cold']:6.2f} s")
    print(f"afiu_jax.load(...).predict, file to map, warm        {seconds['warm'] * 1e3:6.0f} ms")
    print(f"onnxruntime, file to map, warm                       {seconds['peer_warm'] * 1e3:6.0f} ms")
    print(f"warm: {report['ratio_warm']:.2f} x onnxruntime's speed; the maps differ by", end=" ")
    print(f"{report['mean_difference_of_the_maps']:.4f} on average")
    if out:
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as-peer"]:
        peer(*map(Path, sys.argv[2:5]), int(sys.argv[5]))
    else:
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
        parser.add_argument("--photo", type=Path, help="in place of a generated one")
        parser.add_argument("--weights", default="u2netp-dbd")
        parser.add_argument("--rounds", type=count, default=5)
        parser.add_argument("--json", type=Path, help="write the figures there")
        flags = parser.parse_args()
        main(flags.photo, flags.weights, flags.rounds, flags.json)
