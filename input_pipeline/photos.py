"""Photos without masks, for prediction."""

import glob
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from input_pipeline.paths import at_home
from input_pipeline.pictures import BROKEN, EXTENSIONS, colour_profile, read_photo
from input_pipeline.records import DataError, Meaning, Record


class Photos:
    """The photos that paths name: files themselves, and every picture of a folder (not of its sub-folders).

    EXIF rotation is applied, so that a map fits the photo as it is seen. The masks of the records are empty.

    Args:
        paths: files, folders, and patterns such as ``photos/*.jpg``, for shells that pass them on.
        white: what the (empty) masks would mark.

    Raises:
        DataError: a path that does not exist, a folder or a pattern without pictures, two photos of one stem.
    """

    def __init__(self, paths: Sequence[str | Path], white: Meaning = "salient"):
        self.white = white
        files: dict[str, Path] = {}
        for path in map(Path, paths):
            for file in _pictures(at_home(path)):
                other = files.setdefault(file.stem, file)
                if other.resolve() != file.resolve():
                    raise DataError(
                        f"{other} and {file} would give one map: rename one, or predict it into another folder"
                    )
        self.files = list(files.items())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Record:
        """Decodes one photo.

        Raises:
            DataError: it cannot be read.
        """
        stem, path = self.files[index]
        try:
            image, profile = read_photo(path), colour_profile(path)
        except BROKEN as error:
            raise DataError(f"cannot read {path}: {_cause(error)}; replace the file or leave it out") from error
        return {"image": image, "mask": np.zeros(image.shape[:2], np.uint8), "id": stem, "profile": profile}


def _cause(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "identify image file" in text:
        return "it is no picture, or one of a kind that Pillow does not know"
    return text or type(error).__name__


def _pictures(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))
        if not files:
            raise DataError(f"no pictures in {path} ({', '.join(sorted(EXTENSIONS))})")
        return files
    if path.exists():
        return [path]
    if glob.has_magic(str(path)):
        if files := sorted(Path(p) for p in glob.glob(str(path)) if Path(p).is_file()):  # noqa: PTH207 - absolute too
            return files
        raise DataError(f"nothing fits {path}")
    raise DataError(f"no file or folder {path}: name photos, or a folder of them")
