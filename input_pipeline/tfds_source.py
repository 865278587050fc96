"""Read a prepared TFDS dataset by index, without TensorFlow and without ever downloading."""

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from input_pipeline.builders import BUILDERS, builder_class
from input_pipeline.paths import at_home
from input_pipeline.pictures import BROKEN, mask_pixels, over_white, pixels
from input_pipeline.records import DataError, Meaning, Record
from input_pipeline.suspicion import looks_swapped


class TfdsSource:
    """The records of one split; a `Source`.

    Several threads may read at once: array_record shares one thread-safe reader per file, and decoding keeps
    no state.

    Args:
        examples: dictionaries of encoded files, ``image``, ``mask`` and perhaps ``id``, text or a number, decoded one
            by one.
        white: what 255 means in the masks.
    """

    # No item type: whoever checked it would read a record, which may be damaged.
    def __init__(self, examples: Sequence, white: Meaning):
        self._examples = examples
        self.white = white

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Record:
        """The record at ``index``.

        Raises:
            IndexError: outside ``0 … len - 1``.
            DataError: it cannot be decoded, its halves differ in size, or its mask looks like a photo.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside 0 … {len(self) - 1}")
        name = f"{index:06d}"
        try:
            example = self._examples[index]
            if example["image"] is None or example["mask"] is None:
                raise ValueError("its file ends before it")
        except Exception as error:  # no narrower: TFDS decodes whatever a damaged file gives
            raise DataError(f"cannot read record {name}: {_cause(error)}; prepare the data set again") from error
        if (key := example.get("id")) is not None:
            key = key.decode(errors="replace") if isinstance(key, bytes) else str(key)
            name = re.sub(r"[/\\\0]", "_", key) or name  # it names files
        try:
            image = pixels(over_white(_open(example["image"])), "RGB")
            mask, colours = mask_pixels(_open(example["mask"]))
        except BROKEN as error:
            raise DataError(f"cannot read record {name}: {_cause(error)}; prepare the data set again") from error
        if image.shape[:2] != mask.shape:
            raise DataError(f"image and mask of record {name} differ in size: prepare the data set again")
        if looks_swapped(image, colours):
            raise DataError(f"the mask of record {name} looks like a photo: image and mask may be swapped")
        return Record(image=image, mask=mask, id=name)


def open_tfds(
    name: str, split: str, data_dir: str | os.PathLike | None = None, white: Meaning | None = None
) -> TfdsSource:
    """Open a split of a dataset that `prepare` built, or of any prepared TFDS dataset of photos and masks.

    Args:
        name: a name of `BUILDERS`, or of another TFDS dataset (``name`` or ``name/config``) whose features
            include the images ``image`` and ``mask``.
        split: in TFDS's syntax: ``train``, ``train[:90%]``, ``train+test``.
        data_dir: TFDS data folder; `data_folder` says where it is by default.
        white: what 255 means in the masks. Needed where the dataset does not declare it; where it does, this
            wins.

    Returns:
        The records, in the order in which they are stored. An ``id`` is the dataset's own, else the index.

    Raises:
        DataError: the dataset is unknown or not prepared, has no such split, cannot be read by index, lacks
            one of the two images, or does not say what white means.
    """
    folder = _prepared_folder(name, data_folder(data_dir))
    builder, declared = _read_builder(folder, name)
    features = builder.info.features
    for key in ("image", "mask"):
        if key not in features or not isinstance(features[key], tfds.features.Image):
            raise DataError(f"{name} in {folder} has no image {key!r}; its features are {', '.join(sorted(features))}")
    if white is None and declared is None:
        raise DataError(f"{name} does not say what white means in its masks; pass white: salient, blur or focus")
    if declared and white and white != declared:
        logging.warning("%s declares white = %s; read as white = %s, as asked", name, declared, white)
    # Decoding stays here: TFDS would decode by OpenCV where that is installed, and give other pixel values.
    raw = {"image": tfds.decode.SkipDecoding(), "mask": tfds.decode.SkipDecoding()}
    try:
        examples = builder.as_data_source(split, decoders=raw)
    except NotImplementedError as error:
        raise DataError(f"{name} in {folder} is not stored as array_record; prepare it in that format") from error
    except ValueError as error:
        splits = ", ".join(f"{key} ({info.num_examples})" for key, info in builder.info.splits.items())
        raise DataError(
            f"{name} has no records for split {split!r}; its splits are {splits}, and slices such as train[:90%] work"
        ) from error
    return TfdsSource(examples, white or declared)


def data_folder(data_dir: str | os.PathLike | None = None) -> Path:
    """Absolute path of the TFDS data folder.

    It is the argument, else ``$TFDS_DATA_DIR``, else ``~/tensorflow_datasets``.
    """
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return at_home(chosen).absolute()


def split_names(name: str, data_dir: str | os.PathLike | None = None) -> list[str]:
    """The splits of a prepared dataset; ``name`` and ``data_dir`` as of `open_tfds`.

    Raises:
        DataError: the dataset is unknown or not prepared, or cannot be read.
    """
    builder, _ = _read_builder(_prepared_folder(name, data_folder(data_dir)), name)
    return list(builder.info.splits)


def _read_builder(folder: Path, name: str) -> tuple[tfds.core.DatasetBuilder, str | None]:
    """A prepared dataset, and what it declares white to mean."""
    try:
        builder = tfds.builder_from_directory(folder)
        return builder, (builder.info.metadata or {}).get("white")
    except Exception as error:  # no narrower: each of the three files fails in ways of its own
        raise DataError(f"cannot read {folder} ({_cause(error)}): remove it and prepare {name} again") from error


def _prepared_folder(name: str, root: Path) -> Path:
    """The folder of the dataset's newest version below ``root``."""
    versions = [path.parent for path in (root / name).glob("*/dataset_info.json")]
    versions = [folder for folder in versions if tfds.core.Version.is_valid(folder.name)]
    if versions:
        return max(versions, key=lambda folder: tfds.core.Version(folder.name))
    if name in BUILDERS:
        raise DataError(
            f"{name} is not prepared in {root}: run `afiu data prepare {name} [--manual-dir DIR] [--data-dir DIR]`; "
            "where it is prepared elsewhere, say so by TFDS_DATA_DIR or its path (--path, --config.data.train.path); "
            "or try the configuration's :demo variant, which needs no data. "
            f"By hand: {builder_class(name).MANUAL_DOWNLOAD_INSTRUCTIONS}"
        )
    known = ", ".join(sorted(BUILDERS))
    raise DataError(
        f"unknown dataset {name!r}: not folder, scenes, bokeh, {known}, and no prepared TFDS dataset in {root}"
    )


def _cause(error: Exception, longest: int = 120) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= longest else f"{text[:longest]} …"


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))
