"""Photos without masks, for prediction."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from input_pipeline.pictures import BROKEN, EXTENSIONS, pixels
from input_pipeline.records import DataError, Meaning, Record


class Photos:
    """The photos that paths name: files themselves, and every picture of a folder (not of its sub-folders).

    EXIF rotation is applied, so that a map fits the photo as it is seen. The masks of the records are empty.

    Args:
        paths: files and folders.
        white: what the (empty) masks would mark.

    Raises:
        DataError: a path that does not exist, a folder without pictures, two photos of one stem.
    """

    def __init__(self, paths: Sequence[str | Path], white: Meaning = "salient"):
        self.white = white
        files: dict[str, Path] = {}
        for path in map(Path, paths):
            for file in _pictures(path.expanduser()):
                if (other := files.setdefault(file.stem, file)) != file:
                    raise DataError(f"{other} and {file} would give one map: rename one, or predict them separately")
        self.files = list(files.items())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Record:
        stem, path = self.files[index]
        try:
            with Image.open(path) as picture:
                image = pixels(ImageOps.exif_transpose(picture), "RGB")
        except BROKEN as error:
            raise DataError(f"cannot read {path}: {error}; replace the file or leave it out") from error
        return {"image": image, "mask": np.zeros(image.shape[:2], np.uint8), "id": stem}


def _pictures(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))
        if not files:
            raise DataError(f"no pictures in {path} ({', '.join(sorted(EXTENSIONS))})")
        return files
    if not path.exists():
        raise DataError(f"no file or folder {path}: name photos, or a folder of them")
    return [path]
