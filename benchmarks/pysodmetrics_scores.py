"""Scores by PySODMetrics, the reference of tests/test_metric_parity.py.

It pins an old NumPy, so it has an environment of its own:

    uv venv pysod --python 3.11 && uv pip install --python pysod/bin/python pysodmetrics==1.6.2
    pysod/bin/python benchmarks/pysodmetrics_scores.py ../shared/data > tests/fixtures/pysodmetrics.json

Maps are 8-bit grey pictures, masks are made 0 or 255 at 128 first. Each set is scored twice: min-max normalised, which
is PySODMetrics' default, and as it is.
"""

import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import py_sod_metrics as sod
from PIL import Image


def pairs(predictions: Path, masks: Path):
    """Maps and masks of equal stems, uint8."""
    by_stem = {path.stem: path for path in predictions.iterdir()}
    for mask in sorted(masks.iterdir()):
        grey = (np.asarray(Image.open(path).convert("L")) for path in (by_stem[mask.stem], mask))
        found, truth = grey
        yield found, np.where(truth >= 128, 255, 0).astype(np.uint8)


def new_metrics() -> dict:
    """One object of each metric."""
    binary = {"with_dynamic": False, "with_adaptive": False, "with_binary": True, "sample_based": True}
    handlers = {
        "f": sod.FmeasureHandler(**binary, beta=0.3),
        "iou": sod.IOUHandler(**binary),
        "accuracy": sod.OverallAccuracyHandler(**binary),
    }
    return {
        "f": sod.Fmeasure(),
        "mae": sod.MAE(),
        "s": sod.Smeasure(),
        "e": sod.Emeasure(),
        "weighted": sod.WeightedFmeasure(),
        "binary": sod.FmeasureV2(handlers),
    }


def step(metrics: dict, found: np.ndarray, truth: np.ndarray, *, normalize: bool = True) -> None:
    """Scores one picture."""
    if not normalize:
        found, truth = found / 255, truth > 128
    for metric in metrics.values():
        metric.step(found, truth, normalize=normalize)


def results(metrics: dict) -> dict[str, float]:
    """Scores of a data set under this project's names."""
    f, e = metrics["f"].get_results(), metrics["e"].get_results()["em"]
    precision, recall = f["pr"]["p"], f["pr"]["r"]
    product = 1.3 * precision * recall
    binary = metrics["binary"].get_results()
    scores = {
        "mae": metrics["mae"].get_results()["mae"],
        "max_f": (product / np.where(product == 0, 1, 0.3 * precision + recall)).max(),
        "max_f_mean_curve": f["fm"]["curve"].max(),
        "mean_f": f["fm"]["curve"].mean(),
        "adaptive_f": f["fm"]["adp"],
        "f_at_half": binary["f"]["binary"],
        "weighted_f": metrics["weighted"].get_results()["wfm"],
        "s_measure": metrics["s"].get_results()["sm"],
        "e_measure_max": e["curve"].max(),
        "e_measure_mean": e["curve"].mean(),
        "e_measure_adaptive": e["adp"],
        "iou": binary["iou"]["binary"],
        "accuracy": binary["accuracy"]["binary"],
    }
    return {name: float(value) for name, value in scores.items()}


def main(data: Path) -> None:
    fixture = data / "metric_fixtures" / "pysodmetrics" / "test_data"
    sets = {"pysodmetrics": (fixture / "preds", fixture / "masks")}
    sets |= {f"sed2/{p.name}": (p, data / "sed2" / "masks") for p in sorted((data / "sed2" / "pred").iterdir())}
    out = {"versions": {name: version(name) for name in ("pysodmetrics", "numpy", "scipy")}}
    for name, (predictions, masks) in sets.items():
        for kind in ("normalized", "raw"):
            metrics = new_metrics()
            for found, truth in pairs(predictions, masks):
                step(metrics, found, truth, normalize=kind == "normalized")
            out[f"{name}/{kind}"] = results(metrics)
    json.dump(out, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main(Path(sys.argv[1]))
