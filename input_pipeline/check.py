"""A whole data set read once: what cannot be used, sizes, what the masks hold, and which photos are there twice."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from input_pipeline.likeness import Thumbnail, same_pictures, thumbnail
from input_pipeline.records import DataError, Meaning, Record, Source
from input_pipeline.sharpness import region_sharpness
from input_pipeline.suspicion import looks_unscaled

_CLEARLY = 1.15  # ratio of two sharpnesses from which one side counts as sharper
_ENOUGH = 4  # photos that tell before their majority counts

Progress = Callable[[Iterable[int]], Iterable[int]]


@dataclass
class Findings:
    """What one part of a data set holds.

    Attributes:
        white: what 255 is declared to mark.
        images: records that can be read.
        problems: why a record cannot be used, by name.
        sizes: widths and heights of the photos.
        shares: share of the pixels from 128 on in each mask.
        grey: share of the pixels of all masks that are neither nearly black nor nearly white.
        unscaled: ids of masks that are not empty, yet nowhere reach 128.
        votes: for each photo that tells, by id, whether its sharpness contradicts the declaration.
        ids: of the readable records, in order.
        thumbnails: of the same.
    """

    white: Meaning
    problems: dict[str, str]
    sizes: list[tuple[int, int]] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    grey: list[float] = field(default_factory=list)
    unscaled: list[str] = field(default_factory=list)
    votes: dict[str, bool] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    thumbnails: list[Thumbnail] = field(default_factory=list)

    @property
    def images(self) -> int:
        """Records that can be read."""
        return len(self.ids)

    @property
    def inverted(self) -> bool:
        """Whether most of the photos that tell contradict what white is declared to mark."""
        return len(self.votes) >= _ENOUGH and float(np.mean(list(self.votes.values()))) > 0.75

    def as_dict(self) -> dict:
        """Everything for a JSON file, in plain values."""
        share = np.array(self.shares)
        return {
            "white": self.white,
            "images": self.images,
            "problems": self.problems,
            "sizes": {f"{w}x{h}": self.sizes.count((w, h)) for w, h in sorted(set(self.sizes))},
            "masks": {
                "mean_share": float(share.mean()) if self.images else None,
                "empty": [name for name, s in zip(self.ids, self.shares, strict=True) if s == 0],
                "full": [name for name, s in zip(self.ids, self.shares, strict=True) if s == 1],
                "grey_share": float(np.mean(self.grey)) if self.images else None,
                "unscaled": self.unscaled,
            },
            "polarity": {
                "inverted": self.inverted,
                "photos_that_tell": len(self.votes),
                "suspicious": [name for name, contradicts in self.votes.items() if contradicts],
            },
        }


def read_whole(source: Source, problems: Mapping[str, str], progress: Progress = iter) -> Findings:
    """Decodes every record.

    Args:
        source: a source that stops at records that it cannot read.
        problems: what was left out when it was opened.
        progress: goes through the indices, and may show how far it is.
    """
    found = Findings(source.white, dict(problems))
    for index in progress(range(len(source))):
        try:
            record = source[index]
        except DataError as error:
            found.problems[f"record {index}"] = str(error)
        else:
            _note(found, record)
    return found


def duplicates(parts: Mapping[str, Findings]) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Pairs of ``(part, id)`` whose photos look the same, in one part or in two."""
    names = [(part, name) for part, found in parts.items() for name in found.ids]
    thumbnails: Sequence[Thumbnail] = [small for found in parts.values() for small in found.thumbnails]
    return [(names[a], names[b]) for a, b in same_pictures(thumbnails)]


def _note(found: Findings, record: Record) -> None:
    image, mask, name = record["image"], record["mask"], record["id"]
    white = mask >= 128
    found.ids.append(name)
    found.sizes.append((mask.shape[1], mask.shape[0]))
    found.shares.append(float(white.mean()))
    found.grey.append(float(((mask > 24) & (mask < 231)).mean()))
    found.thumbnails.append(thumbnail(image))
    if looks_unscaled(mask):
        found.unscaled.append(name)
    if found.white != "salient":
        marked, rest = region_sharpness(image, white, ~white)
        if marked and rest and marked.typical and rest.typical:  # flat areas, as of a cut-out, tell nothing
            sharper = marked.typical / rest.typical
            if max(sharper, 1 / sharper) >= _CLEARLY:
                found.votes[name] = (sharper > 1) != (found.white == "focus")
