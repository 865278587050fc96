"""Data that is generated, written to disk once: every run of a study sees the same, whatever its seed.

A run composites ``bokeh`` and draws ``scenes`` from its own seed. In a study that would give every seed a data set of
its own, tests included; a photo collection does not change with the seed of a network. It saves time, too.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from afiu_jax.console import progress
from input_pipeline.records import Meaning
from input_pipeline.sources import GENERATED, Spec, describe, open_source

_SEED = 0
_MARK = "made_from.json"  # written last: a folder that has it is whole


@dataclass(frozen=True)
class Generated:
    """A folder of generated data.

    Attributes:
        path: the folder.
        source: what it is generated from.
        meaning: what its masks mark.
    """

    path: Path
    source: Spec
    meaning: Meaning

    @property
    def spec(self) -> Spec:
        """The data, as it is read."""
        return Spec("folder", path=str(self.path), white=self.meaning)

    def write(self) -> None:
        """Generates whatever is not there yet.

        Raises:
            DataError: bad data to generate it from.
        """
        if (self.path / _MARK).exists():
            return
        source = open_source(self.source, self.meaning, seed=_SEED)
        for part in ("images", "masks"):
            (self.path / part).mkdir(parents=True, exist_ok=True)
        for index in progress(range(len(source)), f"writing {describe(self.source)}"):
            record = source[index]
            for part, picture in (("images", record["image"]), ("masks", _binary(record["mask"]))):
                Image.fromarray(picture).save(self.path / part / f"{record['id']}.png")
        mark = {"source": identity(self.source), "meaning": self.meaning, "seed": _SEED, "images": len(source)}
        (self.path / _MARK).write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")


def generated(spec: Spec, meaning: Meaning, folder: Path) -> Generated | None:
    """Where generated data stands in a study's folder; None for data that is not generated.

    Args:
        spec: the data.
        meaning: what the masks shall mark.
        folder: of the study.
    """
    if spec.name not in GENERATED:
        return None
    key = hashlib.sha256(json.dumps([identity(spec), meaning]).encode()).hexdigest()[:8]
    name = re.sub(r"\W+", "-", f"{spec.name}-{spec.split or 'all'}").strip("-")
    return Generated(folder / "data" / f"{name}-{key}", spec, meaning)


def identity(spec: Spec) -> dict:
    """Which data it is, as JSON gives it back; of where it lies, only the folder's own name."""
    return {**vars(spec), "path": spec.path and Path(spec.path).name, "radius": list(spec.radius)}


def _binary(mask: np.ndarray) -> np.ndarray:
    """As it is read: target from 128 on."""
    return np.where(mask >= 128, np.uint8(255), np.uint8(0))
