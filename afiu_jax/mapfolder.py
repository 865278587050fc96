"""Maps on disk and their masks, matched by stem, with everything that is odd about them said aloud."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from afiu_jax.errors import UserError
from afiu_jax.maps import resize_map, to_8_bit
from input_pipeline.paths import at_home
from input_pipeline.pictures import BROKEN, EXTENSIONS, pixels, require_upright

_GREY = ("1", "L")
_AHEAD = 32  # pictures that are read before they are asked for


@dataclass(frozen=True)
class Pair:
    """A map and its mask, of one size.

    Attributes:
        stem: what both files are called.
        found: the map, 0…255.
        mask: the target's pixels.
        resized: whether the map had another size.
    """

    stem: str
    found: UInt8[np.ndarray, "h w"]
    mask: Bool[np.ndarray, "h w"]
    resized: bool


class MapFolder:
    """A folder of maps beside a folder of masks, in the order of their stems.

    Args:
        predictions: folder of maps, 8-bit grey pictures.
        masks: folder of masks; from 128 on is the target.
        invert_predictions: 255 in the maps is what 0 is in the masks.
        invert_masks: the target is what is below 128.

    Attributes:
        warnings: by kind, a line for each file that is not as it should be; complete after iterating.
        left_out: stems that cannot be scored; complete after iterating.

    Raises:
        UserError: a folder that is missing or without pictures, no common stem, two files of one stem.
    """

    def __init__(
        self,
        predictions: str | Path,
        masks: str | Path,
        *,
        invert_predictions: bool = False,
        invert_masks: bool = False,
    ):
        self.invert_predictions, self.invert_masks = invert_predictions, invert_masks
        self.warnings: dict[str, list[str]] = {}
        self.left_out: list[str] = []
        self._maps, self._masks = _by_stem(Path(predictions), "maps"), _by_stem(Path(masks), "masks")
        self.stems = sorted(self._maps.keys() & self._masks.keys())
        if not self.stems:
            raise UserError(
                f"{predictions} and {masks} have no file name in common (up to the extension), for instance "
                f"{min(self._maps)!r} and {min(self._masks)!r}: name the folders of maps and masks of the same photos"
            )
        for have, lack, what, where in (
            (self._masks, self._maps, "mask without a map", predictions),
            (self._maps, self._masks, "map without a mask", masks),
        ):
            for stem in sorted(have.keys() - lack.keys()):
                self._leave_out(stem, what, f"{have[stem]}: {what} in {where}")

    def __len__(self) -> int:
        return len(self.stems)

    def __iter__(self) -> Iterator[Pair]:
        with ThreadPoolExecutor() as threads:
            futures = [threads.submit(_read_pair, self._maps[s], self._masks[s]) for s in self.stems[:_AHEAD]]
            for i, stem in enumerate(self.stems):
                found, mask = futures.pop(0).result()
                if i + _AHEAD < len(self.stems):
                    ahead = self.stems[i + _AHEAD]
                    futures.append(threads.submit(_read_pair, self._maps[ahead], self._masks[ahead]))
                if isinstance(found, str) or isinstance(mask, str):
                    for problem in (p for p in (found, mask) if isinstance(p, str)):
                        self._leave_out(stem, "cannot be read", problem)
                else:
                    yield self._pair(stem, found, mask)

    def _pair(self, stem: str, found: "_Read", mask: "_Read") -> Pair:
        for path, read in ((self._maps[stem], found), (self._masks[stem], mask)):
            if read.remark:
                self._warn(*read.remark, path)
        levels, target = found.levels, mask.levels >= 128
        if between := int(((mask.levels > 0) & (mask.levels < 255)).sum()):
            self._warn(
                "mask has grey levels",
                f"{between} of {mask.levels.size} pixels; from 128 on is target",
                self._masks[stem],
            )
        if levels.min() == levels.max():
            self._warn("map is constant", f"{levels.min()} everywhere", self._maps[stem])
        resized = levels.shape != target.shape
        if resized:
            self._warn(
                "map of another size", f"{_size(levels)}, resized to its mask's {_size(target)}", self._maps[stem]
            )
            levels = to_8_bit(resize_map(levels.astype(np.float32) / 255, target.shape))
        return Pair(
            stem,
            255 - levels if self.invert_predictions else levels,
            ~target if self.invert_masks else target,
            resized,
        )

    def _leave_out(self, stem: str, kind: str, line: str) -> None:
        if stem not in self.left_out:  # both halves of a pair may be broken
            self.left_out.append(stem)
        self.warnings.setdefault(kind, []).append(f"{line} (left out)")

    def _warn(self, kind: str, what: str, path: Path) -> None:
        self.warnings.setdefault(kind, []).append(f"{path}: {kind}: {what}")


@dataclass(frozen=True)
class _Read:
    levels: UInt8[np.ndarray, "h w"]
    remark: tuple[str, str] | None


def _read_pair(found: Path, mask: Path) -> tuple[_Read | str, _Read | str]:
    return _read(found), _read(mask)


def _read(path: Path) -> _Read | str:
    """Grey levels of a picture of any kind; a line that says why not, if it cannot be read."""
    try:
        with Image.open(path) as picture:
            require_upright(picture)
            picture.load()
            if picture.mode in ("I", "F"):
                return f"{path}: cannot be read: it has 32 bits to a pixel; save it with 8"
            if picture.mode in _GREY:
                return _Read(pixels(picture, "L"), None)
            if picture.mode.startswith("I;16"):
                return _Read(pixels(picture, "L"), ("picture of 16 bits", "scaled to 8"))
            return _Read(pixels(picture, "L"), ("colour picture", f"{picture.mode}, its luminance is used"))
    except BROKEN as error:
        return f"{path}: cannot be read: {' '.join(str(error).split())}"


def _by_stem(folder: Path, what: str) -> dict[str, Path]:
    folder = at_home(folder)
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: name the folder of {what}")
    files = [p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith(".")]
    if not files:
        raise UserError(f"no pictures in {folder} ({', '.join(sorted(EXTENSIONS))}): name the folder of {what}")
    if twice := sorted(stem for stem, n in Counter(p.stem for p in files).items() if n > 1):
        raise UserError(f"{folder} holds more than one file called {twice[0]}: keep one of each")
    return {p.stem: p for p in files}


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
