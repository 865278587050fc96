"""What the builders share: features, pairing, splits. A dataset file only declares where its files are."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

import tensorflow_datasets as tfds
from absl import logging

from input_pipeline.builders.encode import encode_image, encode_mask
from input_pipeline.builders.files import Pair, Picture, list_pictures, pair_up, pictures_in
from input_pipeline.records import DataError, Meaning


class Split(NamedTuple):
    """Where the files of a split are.

    Attributes:
        name: ``train`` or ``test``.
        images: names that the folder of photos goes by, the official one first (see `files.pictures_in`).
        masks: likewise for the masks.
        pairs: official number of pairs.
    """

    name: str
    images: tuple[str, ...]
    masks: tuple[str, ...]
    pairs: int


class MaskDatasetBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A dataset of photos with one mask each, read from ``manual_dir``.

    Features of a record: ``image`` uint8 [h, w, 3], ``mask`` uint8 [h, w, 1] (grey levels 0–255 as in the
    files), ``id`` the file's stem. The dataset's metadata hold ``white``, what 255 means in the masks.

    Subclasses declare the attributes below; their docstring is the dataset's description.

    Attributes:
        WHITE: what 255 means in the masks.
        HOMEPAGE: page of the authors.
        CITATION: the paper, in one line.
        URLS: official zip archives, which hold everything; empty if it must be fetched by hand.
        SPLITS: one whose files are absent is left out; another number of pairs is only warned about.
        MEND: stems whose mask may be resized to its photo.
        MANUAL_DOWNLOAD_INSTRUCTIONS: where to get the files and how to lay them out.
    """

    VERSION = tfds.core.Version("1.0.0")
    WHITE: ClassVar[Meaning]
    HOMEPAGE: ClassVar[str]
    CITATION: ClassVar[str]
    URLS: ClassVar[tuple[str, ...]] = ()
    SPLITS: ClassVar[tuple[Split, ...]]
    MEND: ClassVar[frozenset[str]] = frozenset()
    MANUAL_DOWNLOAD_INSTRUCTIONS: ClassVar[str] = "Put its folders, which its SPLITS name, into --manual-dir."

    def belongs(self, stem: str, split: str) -> bool:
        """Whether a file of the split's folders is part of the split; by default all are."""
        return True

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "mask": tfds.features.Image(shape=(None, None, 1)),
                    "id": tfds.features.Text(),
                }
            ),
            metadata=tfds.core.MetadataDict(white=self.WHITE),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        """Pairs of all splits; every missing or unmatched file comes up here, before anything is written.

        Raises:
            DataError: no split's files are there, or images and masks do not match.
        """
        root = Path(dl_manager.manual_dir)
        pictures = list_pictures(root)
        pairs = {split: self._pairs(pictures, split) for split in self.SPLITS}
        if not any(pairs.values()):
            raise DataError(f"no files of {self.name} in {root}. {self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        for split, found in pairs.items():
            if not found:
                logging.warning("%s: no files of split %s in %s; it is left out", self.name, split.name, root)
            elif len(found) != split.pairs:
                logging.warning(
                    "%s: split %s has %d pairs, officially %d", self.name, split.name, len(found), split.pairs
                )
        return {split.name: self._generate_examples(found) for split, found in pairs.items() if found}

    def _pairs(self, pictures: list[Picture], split: Split) -> list[Pair]:
        images, masks = (
            [picture for picture in pictures_in(pictures, folders) if self.belongs(picture.stem, split.name)]
            for folders in (split.images, split.masks)
        )
        return list(pair_up(images, masks))

    def _generate_examples(self, pairs: list[Pair]) -> Iterator[tuple[str, dict]]:
        for photo, masks in pairs:
            image, size = encode_image(photo)
            mask = encode_mask(masks, size, mend=photo.stem in self.MEND)
            yield photo.stem, {"image": image, "mask": mask, "id": photo.stem}
