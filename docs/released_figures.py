"""Draws the pictures of the shipped networks: python docs/released_figures.py DATA MAPS.

DATA is the folder with sed2/ and cuhk/. MAPS holds the maps that `afiu evaluate --maps` wrote: sed2 (u2netp-sod), cuhk
(u2netp-dbd) and cuhk-sod (u2netp-sod on the same photos).
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from afiu_jax.report.figures import comparison
from afiu_jax.report.style import save
from input_pipeline.folder import Folder

HEIGHT = 150  # of a photo in a panel, in pixels: scaled down, since the data sets are not ours to publish
WORST = 4


def small(picture: np.ndarray) -> np.ndarray:
    image = Image.fromarray(picture)
    return np.asarray(image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.Resampling.LANCZOS))


def read_map(folder: Path, stem: str) -> np.ndarray:
    return np.asarray(Image.open(folder / f"{stem}.png"))


def error(found: np.ndarray, record: dict) -> float:
    return float(np.abs(found / 255 - (record["mask"] >= 128)).mean())


def main(data: Path, maps: Path, out: Path) -> None:
    sed2 = Folder(data / "sed2", "salient")
    pairs = [(record, read_map(maps / "sed2", record["id"])) for record in map(sed2.__getitem__, range(len(sed2)))]
    worst = sorted(pairs, key=lambda pair: error(pair[1], pair[0]), reverse=True)[:WORST]
    columns = {
        "photo": [small(record["image"]) for record, _ in worst],
        "mask (white = salient)": [small(record["mask"]) for record, _ in worst],
        "u2netp-sod": [small(found) for _, found in worst],
    }
    save(comparison(list(columns.items()), height=1.1), out / "released-sod-worst.jpg")

    cuhk = Folder(data / "cuhk", "blur", "image", "gt")
    records = [cuhk[i] for i in range(len(cuhk))]
    columns = {
        "photo": [small(r["image"]) for r in records],
        "mask (white = blurred)": [small(r["mask"]) for r in records],
        "u2netp-dbd": [small(read_map(maps / "cuhk", r["id"])) for r in records],
        "u2netp-sod, inverted": [small(255 - read_map(maps / "cuhk-sod", r["id"])) for r in records],
    }
    save(comparison(list(columns.items()), height=1.1), out / "released-cuhk.jpg")
    few = [1, 6, 2]  # two good ones and a fair one
    save(comparison([(title, [c[i] for i in few]) for title, c in columns.items()], height=1.1), out / "readme.jpg")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(__file__).parent / "images")
