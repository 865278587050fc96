"""Find the photos of a dataset below a folder, unpacked or still inside their zip archives.

Archives are read in place: nothing is extracted, so nothing in them can be written outside its folder.
"""

import os
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from input_pipeline.pictures import EXTENSIONS
from input_pipeline.records import DataError

LARGEST = 2**28
"""Bytes of the largest member of an archive that is read: a few kilobytes can be made to unpack to anything."""


@dataclass(frozen=True)
class Picture:
    """One picture file.

    Attributes:
        folder: lower-case names of the folders from the root down; an archive counts as a folder of its name
            without ``.zip``.
        stem: file name without its suffix, case kept.
        suffix: lower case, with the dot.
        where: path for messages; ``archive.zip:member`` inside an archive.
        zipped: whether it lies in an archive.
        read: returns the file's bytes.
    """

    folder: tuple[str, ...]
    stem: str
    suffix: str
    where: str
    zipped: bool
    read: Callable[[], bytes]


Pair = tuple[Picture, tuple[Picture, ...]]
"""A photo and the files that may be its mask, best first."""


def list_pictures(root: Path) -> list[Picture]:
    """Every picture below ``root`` and in the zip archives there, in the order of their paths.

    Hidden files, ``__MACOSX`` folders and files that are no pictures (Thumbs.db, …) are passed over. Links to folders
    are followed.

    Raises:
        DataError: an archive cannot be read.
    """
    pictures, seen = [], set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # a link that leads back, or a second one to the same folder
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not _is_litter(name))
        parts = Path(folder).relative_to(root).parts
        for name in sorted(name for name in names if not _is_litter(name)):
            path = Path(folder, name)
            if path.suffix.lower() == ".zip":
                pictures.extend(_list_archive(path, parts))
            elif path.suffix.lower() in EXTENSIONS:
                pictures.append(_picture(PurePosixPath(*parts, name), str(path), False, path.read_bytes))
    return pictures


def _list_archive(path: Path, parts: tuple[str, ...]) -> Iterator[Picture]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path} is not a readable zip archive ({error}); download it again") from error
    for member in sorted(archive.namelist()):
        inner = PurePosixPath(member)
        if inner.suffix.lower() in EXTENSIONS and not any(_is_litter(part) for part in inner.parts):
            yield _picture(
                PurePosixPath(*parts, path.stem, inner),
                f"{path}:{member}",
                True,
                partial(_read_member, archive, member),
            )


def _read_member(archive: zipfile.ZipFile, member: str) -> bytes:
    size = archive.getinfo(member).file_size
    if size > LARGEST:
        raise DataError(f"{member} would unpack to {size >> 20} MiB, more than the {LARGEST >> 20} of any picture here")
    return archive.read(member)  # zipfile reads no more than that size


def _picture(path: PurePosixPath, where: str, zipped: bool, read: Callable[[], bytes]) -> Picture:
    folder = tuple(part.lower() for part in path.parent.parts)
    return Picture(folder, path.stem, path.suffix.lower(), where, zipped, read)


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def pictures_in(pictures: Sequence[Picture], folders: Sequence[str]) -> list[Picture]:
    """The pictures that lie directly in the first of ``folders`` that exists, at whatever depth.

    An unpacked folder is preferred to one in an archive, and then the one nearest to the root.

    Args:
        pictures: as from `list_pictures`.
        folders: names in order of preference, ``/`` between nested ones; upper and lower case are the same.

    Returns:
        The pictures; empty if there is no such folder.

    Raises:
        DataError: two folders answer to the same name equally well.
    """
    contents = defaultdict(list)
    for picture in pictures:
        contents[picture.zipped, len(picture.folder), picture.folder].append(picture)
    for name in folders:
        tail = tuple(name.lower().split("/"))
        found = sorted(key for key in contents if key[2][-len(tail) :] == tail)
        if len(found) > 1 and found[0][:2] == found[1][:2]:
            both = " and ".join(contents[key][0].where for key in found[:2])
            raise DataError(
                f"two folders could be {name!r} ({both}); give --manual-dir the folder of one dataset alone"
            )
        if found:
            return contents[found[0]]
    return []


def pair_up(images: Sequence[Picture], masks: Sequence[Picture]) -> Iterator[Pair]:
    """Match images and masks by stem.

    Where both lie in one folder, JPEG files are the images and the others the masks.

    Yields:
        ``(image, masks)`` in the order of the stems. More than one mask means that the folder holds the same
        stem with several suffixes; PNG comes first.

    Raises:
        DataError: images without masks or masks without images; the message lists the first few of each.
    """
    if images and masks and images[0].folder == masks[0].folder:
        images = [picture for picture in images if picture.suffix in (".jpg", ".jpeg")]
        masks = [picture for picture in masks if picture.suffix not in (".jpg", ".jpeg")]
    image_of = {picture.stem: picture for picture in sorted(images, key=_suffix_rank, reverse=True)}
    masks_of = defaultdict(list)
    for picture in sorted(masks, key=lambda mask: mask.suffix != ".png"):
        masks_of[picture.stem].append(picture)
    lone_images = [image_of[stem].where for stem in sorted(image_of.keys() - masks_of.keys())]
    lone_masks = [masks_of[stem][0].where for stem in sorted(masks_of.keys() - image_of.keys())]
    complaints = [_missing("mask", "image", lone_images), _missing("image", "mask", lone_masks)]
    if any(complaints):
        raise DataError("; ".join(filter(None, complaints)))
    for stem in sorted(image_of):
        yield image_of[stem], tuple(masks_of[stem])


def _suffix_rank(picture: Picture) -> int:
    return EXTENSIONS.index(picture.suffix)


def _missing(missing: str, present: str, where: list[str], shown: int = 3) -> str:
    if not where:
        return ""
    rest = f" and {len(where) - shown} more" if len(where) > shown else ""
    return f"no {missing} for the {present} {', '.join(where[:shown])}{rest}"
