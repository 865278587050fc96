"""A file never runs code: a pickle is put wherever a program reads something, and leaves no trace."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_builders import build, make_pairs
from test_interop_readers import Malicious

from afiu_jax import load
from afiu_jax.errors import UserError
from afiu_jax.interop.onnx_graph import read_onnx
from afiu_jax.interop.readers import read_state_dict
from afiu_jax.interop.stablehlo import read_stablehlo
from afiu_jax.networks import abstract_model
from afiu_jax.training.checkpoint import load_model
from afiu_jax.training.checksums import NAME
from input_pipeline.photos import Photos
from input_pipeline.records import DataError
from input_pipeline.sources import Spec, open_source
from input_pipeline.tfds_source import open_tfds


def folder_pair(path: Path, root: Path) -> None:
    """Reads a file as the photo, then as the mask, of a folder's only pair."""
    good = Image.fromarray(np.zeros((8, 8), np.uint8))
    for bad, other in (("images", "masks"), ("masks", "images")):
        for name in (bad, other):
            (root / bad / name).mkdir(parents=True)
        shutil.copy(path, root / bad / bad / "a.png")
        good.save(root / bad / other / "a.png")
        with pytest.raises(DataError):
            open_source(Spec("folder", str(root / bad), white="blur"), "blur", seed=0)[0]


READERS = {
    "a.npz": lambda path, root: read_state_dict(path),
    "a.safetensors": lambda path, root: read_state_dict(path),
    "a.onnx": lambda path, root: read_onnx(path, abstract_model("u2netp"), "u2netp"),
    "a.stablehlo": lambda path, root: read_stablehlo(path),
    "weights.safetensors": lambda path, root: load(path),
    "a.jpg": lambda path, root: Photos([path])[0],
}


@pytest.mark.parametrize("name", READERS)
def test_a_pickle_with_another_name_is_refused(name, tmp_path):
    (tmp_path / name).write_bytes(pickle.dumps(Malicious(tmp_path / "trace")))
    with pytest.raises((UserError, DataError)) as caught:
        READERS[name](tmp_path / name, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "trace").exists()


def test_pickles_in_the_place_of_photos_and_masks(tmp_path):
    (tmp_path / "file").write_bytes(pickle.dumps(Malicious(tmp_path / "trace")))
    folder_pair(tmp_path / "file", tmp_path)
    assert not (tmp_path / "trace").exists()


def test_pickles_in_the_place_of_a_checkpoints_files(pocket_run, tmp_path):
    """Without checksums, which whoever changes the files can change, too."""
    whole = pocket_run / "checkpoints" / "6"
    files = [
        path.relative_to(whole) for item in ("model", "meta") for path in (whole / item).rglob("*") if path.is_file()
    ]
    for number, file in enumerate(files):
        copy = shutil.copytree(whole, tmp_path / str(number) / "6")
        (copy / NAME).unlink()
        (copy / file).write_bytes(pickle.dumps(Malicious(tmp_path / "trace")))
        try:
            load_model(copy)  # Orbax does not read all of its files
        except UserError as error:
            assert "\n" not in str(error)
    assert files
    assert not (tmp_path / "trace").exists()


def test_pickles_in_the_place_of_a_prepared_data_sets_files(tmp_path):
    make_pairs(tmp_path / "in/images", tmp_path / "in/masks", ["a", "b"])
    build("sod", tmp_path / "in", tmp_path)
    for path in [path for path in (tmp_path / "data").rglob("*") if path.is_file()]:
        whole = path.read_bytes()
        path.write_bytes(pickle.dumps(Malicious(tmp_path / "trace")))
        with pytest.raises(DataError):
            open_tfds("sod", "test", tmp_path / "data")[0]
        path.write_bytes(whole)
    assert not (tmp_path / "trace").exists()


def test_the_trace_is_left_by_who_does_read_pickles(tmp_path):
    """So that the tests above can fail."""
    pickle.loads(pickle.dumps(Malicious(tmp_path / "trace")))
    assert (tmp_path / "trace").exists()
