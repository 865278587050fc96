"""A folder of images beside a folder of masks, matched by stem: anybody's data, with no code to write."""

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from input_pipeline.pictures import BROKEN, EXTENSIONS, pixels
from input_pipeline.records import DataError, Meaning, Record

# Photos come with these last bytes when they are whole; one without them is decoded once, to be sure.
_ENDINGS = {".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9", ".png": b"IEND\xaeB`\x82"}


class Folder:
    """Pairs of ``root/images/<stem>.*`` and ``root/masks/<stem>.*``, in the order of their stems.

    All pairs are checked when the source is opened: their headers are read and their sizes compared, and files that
    end abruptly are decoded, so that a damaged one is found before training and not in its middle.

    Args:
        root: folder that holds both.
        white: what 255 means in the masks.
        images_dir: name of the images' folder inside ``root``.
        masks_dir: name of the masks' folder inside ``root``.

    Raises:
        DataError: a missing or empty folder, an image without a mask or the reverse, two files of one stem, an
            unreadable or truncated file, a pair of different sizes.
    """

    def __init__(
        self,
        root: str | Path,
        white: Meaning = "salient",
        images_dir: str = "images",
        masks_dir: str = "masks",
    ):
        self.white = white
        root = Path(root).expanduser()
        images, masks = _by_stem(root / images_dir), _by_stem(root / masks_dir)
        _require_equal(images, masks, root)
        self.pairs = [(stem, images[stem], masks[stem]) for stem in sorted(images)]
        for _, image, mask in self.pairs:
            _check(image, mask)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Record:
        stem, image, mask = self.pairs[index]
        return {"image": read(image, "RGB"), "mask": read(mask, "L"), "id": stem}


def read(path: Path, mode: str) -> np.ndarray:
    """Decodes a picture: ``RGB`` to uint8 ``[h, w, 3]``, ``L`` to uint8 ``[h, w]``.

    Transparency is dropped, not blended. EXIF rotation is ignored: a mask carries none, and the pair must agree.

    Raises:
        DataError: a file that cannot be decoded to its end.
    """
    try:
        with Image.open(path) as picture:
            return pixels(picture, mode)
    except BROKEN as error:
        raise DataError(f"cannot read {path}: {error}; replace the file or remove the pair") from error


def _by_stem(folder: Path) -> dict[str, Path]:
    """Pictures of a folder by stem; other files are left alone."""
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}: put the pictures there, or name another one (path, split, images_dir, masks_dir); "
            "the configs' :demo variant needs no data"
        )
    files = [p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith(".")]
    if not files:
        raise DataError(f"no pictures in {folder} ({', '.join(sorted(EXTENSIONS))}): put them there")
    twice = [stem for stem, n in Counter(p.stem for p in files).items() if n > 1]
    if twice:
        raise DataError(f"{folder} holds more than one file called {_few(twice)}: keep one of each")
    return {p.stem: p for p in files}


def _require_equal(images: dict[str, Path], masks: dict[str, Path], root: Path) -> None:
    for have, lack, what in (
        (images, masks, "images without a mask"),
        (masks, images, "masks without an image"),
    ):
        if missing := sorted(set(have) - set(lack)):
            raise DataError(
                f"{root}: {len(missing)} {what}: {_few(missing)}; names must agree up to the extension: "
                "add the missing files or move these away"
            )


def _few(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(sorted(names)[:shown]) + more


def _check(image: Path, mask: Path) -> None:
    sizes = []
    for path, mode in ((image, "RGB"), (mask, "L")):
        try:
            with Image.open(path) as picture:
                sizes.append(picture.size)
        except BROKEN as error:
            raise DataError(f"cannot read {path}: {error}; replace the file or remove the pair") from error
        ending = _ENDINGS.get(path.suffix.lower())
        if ending is None or ending not in _tail(path):
            read(path, mode)
    if sizes[0] != sizes[1]:
        (w1, h1), (w2, h2) = sizes
        raise DataError(f"{image} is {w1}x{h1} but {mask} is {w2}x{h2}: make them the same size")


def _tail(path: Path, length: int = 64) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - length))
        return file.read()
