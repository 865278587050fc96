"""Build a dataset once, from its official archives or from files fetched by hand."""

import http.client
import inspect
import os
import shutil
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

import rich.progress
import tensorflow_datasets as tfds

from input_pipeline.builders import builder_class
from input_pipeline.builders.base import MaskDatasetBuilder
from input_pipeline.paths import at_home
from input_pipeline.records import DataError, Meaning
from input_pipeline.tfds_source import data_folder


@dataclass(frozen=True)
class Prepared:
    """What `prepare` made or found; ``str()`` says it in one line.

    Attributes:
        name: the dataset.
        folder: where its records are.
        counts: split → number of pairs.
        official: split → number of pairs that the authors published.
        white: what 255 means in its masks.
        built: False if it was there already and nothing was done.
    """

    name: str
    folder: Path
    counts: dict[str, int]
    official: dict[str, int]
    white: Meaning
    built: bool

    def __str__(self) -> str:
        splits = ", ".join(
            f"{split} {self.counts.get(split, 0)}"
            + (f" (officially {number})" if self.counts.get(split, 0) != number else "")
            for split, number in self.official.items()
        )
        done = "prepared" if self.built else "was already prepared, nothing done (delete the folder to build again)"
        return f"{self.name}: {splits}; white = {self.white}; {self.folder} {done}"


def prepare(
    name: str, manual_dir: str | os.PathLike | None = None, data_dir: str | os.PathLike | None = None
) -> Prepared:
    """Build a dataset as array_record files below ``data_dir/name``; a second call does nothing.

    Args:
        name: a name of `BUILDERS`.
        manual_dir: folder with the dataset's files, unpacked or as zip archives. Without it the official
            archives are downloaded to ``data_dir/downloads/name``, where they stay.
        data_dir: TFDS data folder; `data_folder` says where it is by default.

    Raises:
        DataError: no such dataset or folder; files missing, unmatched or broken; no official address, or the
            download failed.
    """
    builder_cls = builder_class(name)
    builder = builder_cls(data_dir=data_folder(data_dir), file_format="array_record")
    folder = Path(builder.data_dir)
    built = not (folder / "dataset_info.json").is_file()
    if built:
        if manual_dir is not None:
            files = at_home(manual_dir).absolute()
            if not files.is_dir() or not any(files.iterdir()):
                raise DataError(f"{files} is empty or no folder. {builder_cls.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        else:
            files = _download(builder_cls, Path(builder.data_dir_root, "downloads", name))
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=files))
    official = {split.name: split.pairs for split in builder_cls.SPLITS}
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    return Prepared(name, folder, counts, official, builder_cls.WHITE, built)


def describe(name: str) -> str:
    """What the dataset is, which files it has and how to get them.

    Raises:
        DataError: no such dataset.
    """
    builder_cls = builder_class(name)
    if builder_cls.URLS:
        how = f"`afiu data prepare {name}` downloads it. By hand: {builder_cls.MANUAL_DOWNLOAD_INSTRUCTIONS}"
    else:
        how = f"It cannot be downloaded automatically. {builder_cls.MANUAL_DOWNLOAD_INSTRUCTIONS}"
    return f"{inspect.getdoc(builder_cls)}\n\nPaper: {builder_cls.CITATION}\n\n{how}"


def _download(builder_cls: type[MaskDatasetBuilder], folder: Path) -> Path:
    """Fetch the official archives into ``folder``, but those that are there already."""
    by_hand = builder_cls.MANUAL_DOWNLOAD_INSTRUCTIONS
    if not builder_cls.URLS:
        raise DataError(f"{builder_cls.name} cannot be downloaded automatically. {by_hand}")
    folder.mkdir(parents=True, exist_ok=True)
    for url in builder_cls.URLS:
        archive = folder / url.rsplit("/", 1)[-1]
        if archive.is_file():
            continue
        part = archive.with_name(archive.name + ".part")
        try:
            _fetch(url, part)
        except (OSError, http.client.HTTPException) as error:
            raise DataError(f"could not download {url} ({error}). {by_hand}") from error
        # Hosts that moved answer with a web page and status 200.
        if not zipfile.is_zipfile(part):
            raise DataError(f"{url} did not give a zip archive. {by_hand}")
        part.rename(archive)
    return folder


def _fetch(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=60) as response, path.open("wb") as target:
        total = response.headers.get("Content-Length")
        with rich.progress.wrap_file(response, int(total) if total else None, description=path.stem) as stream:
            shutil.copyfileobj(stream, target)
