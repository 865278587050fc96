"""Draws the figures of first-run.md from its runs: python docs/first_run_figures.py RUNS DATA.

RUNS holds the work directories sod, dbd and dbd-scratch and the folders of maps that `afiu evaluate --maps` wrote:
maps/{sod-msra,dbd-cuhk,dbd-scratch-cuhk}. DATA is the folder with cuhk/ and msra10k/.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from afiu_jax.report.curves import loss_curves
from afiu_jax.report.figures import comparison
from afiu_jax.report.style import save
from afiu_jax.training.logging import read_metrics
from input_pipeline.folder import Folder

HEIGHT = 150  # of a photo in a panel, in pixels: scaled down, since the data sets are not ours to publish


def small(picture: np.ndarray) -> np.ndarray:
    image = Image.fromarray(picture)
    return np.asarray(image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.Resampling.LANCZOS))


def maps(folder: Path, stems: list[str]) -> list[np.ndarray]:
    return [small(np.asarray(Image.open(folder / f"{stem}.png"))) for stem in stems]


def main(runs: Path, data: Path, out: Path) -> None:
    cuhk = Folder(data / "cuhk", "blur", "image", "gt")
    records = [cuhk[i] for i in range(len(cuhk))]
    stems = [record["id"] for record in records]
    columns = {
        "photo": [small(r["image"]) for r in records],
        "mask (white = blur)": [small(r["mask"]) for r in records],
        "with SOD prior": maps(runs / "maps" / "dbd-cuhk", stems),
        "from scratch": maps(runs / "maps" / "dbd-scratch-cuhk", stems),
    }
    save(comparison(list(columns.items()), height=1.1), out / "first-run-cuhk.jpg")

    msra = Folder(data / "msra10k" / "val")
    records = [msra[i] for i in range(0, len(msra), len(msra) // 6)][:6]
    columns = {
        "photo": [small(r["image"]) for r in records],
        "mask (white = salient)": [small(r["mask"]) for r in records],
        "SOD map": maps(runs / "maps" / "sod-msra", [r["id"] for r in records]),
    }
    save(comparison(list(columns.items()), height=1.1), out / "first-run-sod.jpg")

    curves = {"SOD": read_metrics(runs / "sod")}
    save(loss_curves(curves, title="SOD on MSRA10K, AFIU-small"), out / "first-run-sod-loss.png")
    curves = {"from SOD": read_metrics(runs / "dbd"), "from scratch": read_metrics(runs / "dbd-scratch")}
    figure = loss_curves(curves, title="DBD on composited bokeh (compare the paper's Figure 7)")
    save(figure, out / "first-run-dbd-loss.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(__file__).parent / "images")
