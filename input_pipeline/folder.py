"""A folder of images beside a folder of masks, matched by stem: anybody's data, with no code to write."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from input_pipeline.paths import at_home
from input_pipeline.pictures import BROKEN, EXTENSIONS, mask_pixels, over_white, pixels, require_upright
from input_pipeline.records import DataError, Meaning, Record
from input_pipeline.skipping import Faults
from input_pipeline.suspicion import looks_swapped

# Photos come with these last bytes when they are whole; one without them is decoded once, to be sure.
_ENDINGS = {".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9", ".png": b"IEND\xaeB`\x82"}


class Folder:
    """Pairs of ``root/images/<stem>.*`` and ``root/masks/<stem>.*``, in the order of their stems.

    Where both are one folder, as MSRA10K comes, JPEG files are the images and others the masks.

    All pairs are checked when the source is opened: their headers are read and their sizes compared, and files that
    end abruptly are decoded, so that a damaged one is found before training and not in its middle. What shows only in
    the pixels (a photo in place of a mask) is refused when a pair is read.

    Args:
        root: folder that holds both.
        white: what 255 means in the masks.
        images_dir: name of the images' folder inside ``root``.
        masks_dir: name of the masks' folder inside ``root``.
        faults: where pairs that cannot be used are noted and left out; None: the first one is an error.

    Raises:
        DataError: a missing or empty folder, an image without a mask or the reverse, two files of one stem, an
            unreadable or truncated file, a pair of different sizes; with ``faults``, only if no pair is left.
    """

    def __init__(
        self,
        root: str | Path,
        white: Meaning = "salient",
        images_dir: str = "images",
        masks_dir: str = "masks",
        faults: Faults | None = None,
    ):
        self.white = white
        root = at_home(root)
        of_images, of_masks = EXTENSIONS, EXTENSIONS
        if (root / images_dir).resolve() == (root / masks_dir).resolve():
            of_images = (".jpg", ".jpeg")
            of_masks = tuple(suffix for suffix in EXTENSIONS if suffix not in of_images)
        images = _by_stem(root / images_dir, of_images, faults)
        masks = _by_stem(root / masks_dir, of_masks, faults)
        if faults is None:
            _require_equal(images, masks, root)
        else:
            _note_unequal(images, masks, root, faults)
        self.pairs = []
        for stem in sorted(images.keys() & masks.keys()):
            try:
                _check(images[stem], masks[stem])
            except DataError as error:
                if faults is None:
                    raise
                faults[str(images[stem])] = str(error)
            else:
                self.pairs.append((stem, images[stem], masks[stem]))
        if not self.pairs:
            raise DataError(f"{root}: none of the pairs can be used, for instance: {next(iter(faults.values()))}")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Record:
        """Decodes one pair.

        Raises:
            DataError: it cannot be read, or is no photo with its mask.
        """
        stem, image, mask = self.pairs[index]
        photo = read(image, "RGB")
        with _opened(mask) as picture:
            grey, colours = mask_pixels(picture)
        if photo.shape[:2] != grey.shape:
            raise DataError(f"{image} and {mask} differ in size: make them the same size")
        if looks_swapped(photo, colours):
            raise DataError(
                f"{mask} looks like a photo, not like a mask: swap it with {image} if that is the mask, "
                "or remove the pair"
            )
        return {"image": photo, "mask": grey, "id": stem}


def read(path: Path, mode: str) -> np.ndarray:
    """Decodes a picture: ``RGB`` to uint8 ``[h, w, 3]``, ``L`` to uint8 ``[h, w]``.

    What is transparent in a photo is white, as ``afiu predict`` sees it. EXIF rotation is ignored: a mask carries
    none, and the pair must agree.

    Raises:
        DataError: a file that cannot be decoded to its end, or a TIFF that is turned, which Pillow does not ignore.
    """
    with _opened(path) as picture:
        return pixels(over_white(picture) if mode == "RGB" else picture, mode)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as picture:
            require_upright(picture)
            yield picture
    except BROKEN as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot read {path}: {why}; replace the file or remove the pair") from error


def _by_stem(folder: Path, suffixes: Sequence[str], faults: Faults | None) -> dict[str, Path]:
    """Pictures of a folder by stem; other files are left alone."""
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}: put the pictures there, or name another one (path, split, images_dir, masks_dir); "
            "the configs' :demo variant needs no data"
        )
    files = [p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")]
    if not files:
        raise DataError(f"no pictures in {folder} ({', '.join(sorted(suffixes))}): put them there")
    for file in [file for file in files if not _is_text(file.name)]:
        reason = f"{folder} holds a file called {file.name!a}, which is not UTF-8: rename it"
        if faults is None:
            raise DataError(reason)
        faults[ascii(str(file))] = reason
        files.remove(file)
    twice = [stem for stem, n in Counter(p.stem for p in files).items() if n > 1]
    if twice and faults is None:
        raise DataError(f"{folder} holds more than one file called {_few(twice)}: keep one of each")
    for stem in twice:
        faults[str(folder / stem)] = f"{folder} holds more than one file called {stem}: keep one"
    return {p.stem: p for p in files if p.stem not in twice}


def _is_text(name: str) -> bool:
    """Whether a name can be printed; the bytes of others cannot be told from other names' in a log."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


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


def _note_unequal(images: dict[str, Path], masks: dict[str, Path], root: Path, faults: Faults) -> None:
    for have, lack, what in ((images, masks, "mask"), (masks, images, "image")):
        for stem in sorted(have.keys() - lack.keys()):
            faults[str(have[stem])] = f"{have[stem]} has no {what} of its name that can be used in {root}: add one"


def _few(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(sorted(names)[:shown]) + more


def _check(image: Path, mask: Path) -> None:
    sizes = []
    for path, mode in ((image, "RGB"), (mask, "L")):
        if not path.is_file():  # opening a pipe would wait for ever
            raise DataError(f"{path} is no file, or a link that leads nowhere: replace it or remove the pair")
        with _opened(path) as picture:
            sizes.append(picture.size)
        ending = _ENDINGS.get(path.suffix.lower())
        if ending is None or ending not in _tail(path):
            read(path, mode)
    if sizes[0] != sizes[1]:
        (w1, h1), (w2, h2) = sizes
        remedy = "make them the same size"
        if (w1, h1) == (h2, w2):
            remedy = "turn one of them; a photo that is shown upright by its EXIF data alone has to be saved so"
        raise DataError(f"{image} is {w1}x{h1} but {mask} is {w2}x{h2}: {remedy}")


def _tail(path: Path, length: int = 64) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - length))
        return file.read()
