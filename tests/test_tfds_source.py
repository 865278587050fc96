"""Prepared TFDS data sets of somebody else."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from test_builders import mask_levels, photo

from input_pipeline.records import DataError
from input_pipeline.sources import Spec, parts_of
from input_pipeline.tfds_source import open_tfds


class Foreign(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A dataset of somebody else: no id, no word about white."""

    VERSION = tfds.core.Version("2.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "mask": tfds.features.Image(shape=(None, None, 1)),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"val": self._generate_examples()}

    def _generate_examples(self):
        yield "a", {"image": photo(), "mask": Image.fromarray(mask_levels())}


def test_another_prepared_dataset_needs_white_from_the_caller(tmp_path):
    Foreign(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    with pytest.raises(DataError, match="does not say what white means"):
        open_tfds("foreign", "val", tmp_path)
    source = open_tfds("foreign", "val", tmp_path, white="focus")
    assert (source.white, source[0]["id"]) == ("focus", "000000")
    np.testing.assert_array_equal(source[0]["image"], np.asarray(photo()))
    np.testing.assert_array_equal(source[0]["mask"], mask_levels())


class Richer(Foreign):
    """One with features that nobody here looks at, and numbers for ids."""

    def _info(self):
        features = {**Foreign._info(self).features, "id": np.int64, "box": tfds.features.BBoxFeature()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self):
        box = tfds.features.BBox(ymin=0.0, xmin=0.0, ymax=1.0, xmax=1.0)
        yield "a", {"image": photo(), "mask": Image.fromarray(mask_levels()), "id": 17, "box": box}


class Nested(Foreign):
    """One whose ids are paths."""

    def _info(self):
        features = {**Foreign._info(self).features, "id": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self):
        for key in ("a/b", "../c", ""):
            yield key or "none", {"image": photo(), "mask": Image.fromarray(mask_levels()), "id": key}


def test_other_features_of_a_prepared_dataset_do_no_harm(tmp_path):
    Richer(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    record = open_tfds("richer", "val", tmp_path, white="focus")[0]
    assert record["id"] == "17"
    np.testing.assert_array_equal(record["mask"], mask_levels())


def test_a_check_without_a_split_reads_them_all(tmp_path):
    Richer(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    assert parts_of(Spec("richer", str(tmp_path))) == ["val"]
    assert parts_of(Spec("richer", str(tmp_path), "val[:1]")) == ["val[:1]"]
    assert parts_of(Spec("folder", str(tmp_path))) == [None]
    with pytest.raises(DataError, match="unknown dataset"):
        parts_of(Spec("none", str(tmp_path)))


def test_ids_that_are_paths_name_files_in_one_folder(tmp_path):
    Nested(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    source = open_tfds("nested", "val", tmp_path, white="focus")
    names = [source[i]["id"] for i in range(3)]
    assert sorted(name for name in names if not name.isdigit()) == [".._c", "a_b"]
    assert len(set(names)) == 3
