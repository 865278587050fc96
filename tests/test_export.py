"""Networks as programs for others: ONNX in onnxruntime, StableHLO through jax.export."""

import inspect
import json
import re
import zipfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from conftest import ROOT, run_command, save_untrained, tiny_config
from flax import nnx
from pocket import Pocket, add_names
from two_rsus import add_two_rsus

from afiu_jax.batch_norm import batch_norm
from afiu_jax.errors import UserError
from afiu_jax.export import PROGRAMS, TOLERANCE, Exportable, export
from afiu_jax.inference import Predictor
from afiu_jax.interop.stablehlo import read_stablehlo
from afiu_jax.layers import conv
from afiu_jax.losses import DEFAULT_LOSS
from afiu_jax.networks import NETWORKS
from afiu_jax.weights import load_weights
from input_pipeline.scenes import Scenes

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
needs_jax2onnx = pytest.mark.skipif(find_spec("jax2onnx") is None, reason="needs jax2onnx: uv sync --extra export")
EACH_PROGRAM = [pytest.param(name, marks=needs_jax2onnx if name == "onnx" else ()) for name in PROGRAMS]


@pytest.fixture(scope="module", autouse=True)
def small():
    """The network of this module is that of ``two_rsus.py``; whole ones are exported by the slow tests."""
    with pytest.MonkeyPatch.context() as patch:
        add_two_rsus(patch)
        yield


@pytest.fixture(scope="module")
def focus_run(tmp_path_factory):
    """A tiny DBD network whose training on what is in focus has just begun."""
    config = tiny_config("dbd", task__positive="focus", model__name="two_rsus")
    config.model.options = {}
    return save_untrained(tmp_path_factory.mktemp("runs") / "focus", config)


@pytest.fixture(scope="module")
def images(focus_run):
    """Three pictures as the network takes them, and the maps that ``afiu predict`` makes of them."""
    predictor = Predictor(focus_run)
    batch = np.stack([predictor._prepare(Scenes("blur", split="test")[i]["image"]) for i in range(3)])
    return batch, predictor._run(batch)


@needs_jax2onnx
def test_onnx_gives_the_maps_of_predict_for_any_batch(focus_run, images, tmp_path, monkeypatch):
    maps, precisions = Exportable.maps, []

    def noted(self, images):
        precisions.append(jax.config.jax_default_matmul_precision)
        return maps(self, images)

    monkeypatch.setattr(Exportable, "maps", noted)
    path, _, (sizes, difference) = export(focus_run, tmp_path / "a.onnx", "onnx")
    assert precisions[-1] == "highest"  # of the maps that it is compared with
    assert sizes == "batches of any length, size: 64x64"
    assert "differ from JAX's by at most" in difference
    session = onnxruntime.InferenceSession(path)
    assert session.get_inputs()[0].shape == ["batch", 3, 64, 64]
    for batch in (1, 3):
        (found,) = session.run(None, {"image": images[0][:batch].transpose(0, 3, 1, 2)})
        assert found.shape == (batch, 1, 64, 64)
        np.testing.assert_allclose(found[:, 0], images[1][:batch], atol=TOLERANCE)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["positive"] == "blur"  # though it was trained on focus
    assert metadata["task"] == "dbd"
    assert metadata["normalize"] == "imagenet"
    assert "1 = blur" in metadata["preprocessing"]
    onnx.checker.check_model(onnx.load(path), full_check=True)


COMMAND = """
import pytest
from two_rsus import add_two_rsus
from afiu_jax.cli import main

add_two_rsus(pytest.MonkeyPatch())
main()
"""


def test_stablehlo_gives_the_maps_of_predict_for_any_batch_and_size(focus_run, images, tmp_path, monkeypatch):
    # In a process of its own: the shape checks of these tests do not know sizes that are not numbers.
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    done = run_command("-c", COMMAND, "export", "--weights", focus_run, "--format", "stablehlo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for part in ("wrote focus.stablehlo: two_rsus", "multiples of 32, from 64 on", "differ from JAX's by at most"):
        assert part in done.stdout
    exported, metadata = read_stablehlo(tmp_path / "focus.stablehlo")
    assert (metadata["positive"], metadata["task"], metadata["network"]) == ("blur", "dbd", "two_rsus")
    assert exported.platforms == ("cpu", "cuda")
    for batch in (1, 3):
        np.testing.assert_allclose(exported.call(images[0][:batch])[..., 0], images[1][:batch], atol=TOLERANCE)
    other = np.random.default_rng(0).normal(size=(2, 96, 128, 3)).astype(np.float32)
    expected = Predictor(focus_run)._run(other)
    np.testing.assert_allclose(exported.call(other)[..., 0], expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("side", "shape"), [(64, "b, 32*h, 32*w"), (320, "b, 32*h, 32*w"), (32, "b, 32, 32"), (100, "b, 100, 100")]
)
def test_other_sizes_than_multiples_of_32_are_programs_of_one_size(side, shape, tmp_path, monkeypatch):
    class Traced(BaseException):
        pass

    def trace(exportable, asked, constraints):
        raise Traced(asked)

    module = import_module(PROGRAMS["stablehlo"])
    monkeypatch.setattr(module, "_trace", trace)
    with pytest.raises(Traced, match=re.escape(shape)):
        inspect.unwrap(module.write)(SimpleNamespace(size=side), tmp_path / "a.stablehlo")


class Halved(Pocket):
    """One that says in which type it computes."""

    def __init__(self, dtype: str = "float32", *, rngs: nnx.Rngs):
        self.stem, self.norm = conv(3, 4, 3, dtype=dtype, rngs=rngs), batch_norm(4, dtype=dtype, rngs=rngs)
        self.head = conv(4, 1, 3, dtype=dtype, rngs=rngs)


@pytest.mark.parametrize("to", [*EACH_PROGRAM, "safetensors"])
def test_what_was_trained_in_bfloat16_is_exported_in_float32(to, tmp_path, monkeypatch):
    """The ONNX checker refuses convolutions in bfloat16."""
    monkeypatch.setitem(NETWORKS, "halved", Halved)
    monkeypatch.setitem(DEFAULT_LOSS, "halved", "bce")
    add_names(monkeypatch, "halved")
    config = tiny_config(model__name="halved")
    config.model.options = {"dtype": "bfloat16"}
    path, saved, _ = export(save_untrained(tmp_path / "run", config), tmp_path / f"a.{to}", to)
    assert saved.config["model"]["options"] == {"dtype": "float32"}
    if to == "safetensors":
        assert load_weights(path).config["model"]["options"] == {"dtype": "float32"}
        assert Predictor(path).predict(np.zeros((8, 8, 3), np.uint8)).dtype == np.float32


def test_a_program_that_differs_is_not_kept(focus_run, tmp_path, monkeypatch):
    module = import_module(PROGRAMS["stablehlo"])
    monkeypatch.setattr(
        module, "open_program", lambda path: lambda images: np.zeros((*images.shape[:3], 1), np.float32)
    )
    with pytest.raises(UserError, match="nothing was written"):
        export(focus_run, tmp_path / "a.stablehlo", "stablehlo")
    assert list(tmp_path.iterdir()) == []


def test_photos_may_be_prepared_in_another_way_than_in_training(untrained, tmp_path):
    export(untrained, tmp_path / "a.safetensors", size=96, antialias=True)
    data = load_weights(tmp_path / "a.safetensors").config["data"]
    assert (data["image_size"], data["antialias"]) == (96, True)
    export(untrained, tmp_path / "b.safetensors")
    trained = load_weights(untrained).config["data"]
    assert (trained["image_size"], trained["antialias"]) != (96, True)
    assert load_weights(tmp_path / "b.safetensors").config["data"] == {key: trained[key] for key in data}


def test_wrong_requests_are_refused(focus_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for options, message in (
        ({"to": "tflite"}, "--format is one of: safetensors, onnx, stablehlo"),
        ({"to": "onnx", "out": Path("a.bin")}, r"ends in \.onnx"),
        ({"to": "onnx", "half": True}, "--half is for"),
        ({"to": "onnx", "size": 101}, "nearest: 100x100 or 102x102"),
        ({"size": 101}, "nearest: 100x100 or 102x102"),
        ({"size": 10**8}, "size is 100000000: give a number of pixels up to 4096"),
    ):
        with pytest.raises(UserError, match=message):
            export(focus_run, **options)
    Path("focus.onnx").write_bytes(b"mine")
    for out in (None, Path("focus.onnx")):
        with pytest.raises(UserError, match=r"focus\.onnx is there already: remove it, or name another file"):
            export(focus_run, out, to="onnx")
    assert Path("focus.onnx").read_bytes() == b"mine"


def test_damaged_programs_are_refused(tmp_path):
    (tmp_path / "text.stablehlo").write_text("nothing")
    with zipfile.ZipFile(tmp_path / "half.stablehlo", "w") as archive:
        archive.writestr("metadata.json", json.dumps({}))
    for name in ("text", "half", "none"):
        with pytest.raises(UserError, match=f"{name}.stablehlo"):
            read_stablehlo(tmp_path / f"{name}.stablehlo")


@pytest.mark.slow
@pytest.mark.parametrize("program", EACH_PROGRAM)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_exported(name, program, tmp_path, monkeypatch):
    # In a process of its own, as above.
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    done = run_command(ROOT / "tests" / "exporting.py", name, program, tmp_path / "program", timeout=900)
    assert done.returncode == 0, done.stderr
    any_size = program == "stablehlo" and name != "srm"  # whose pooling windows are parts of the image
    sizes, *differences = done.stdout.splitlines()
    assert ("sizes: multiples of 32" in sizes) == any_size
    assert len(differences) == 1 + any_size
    assert max(map(float, differences)) <= TOLERANCE


@pytest.mark.slow
@needs_jax2onnx
def test_the_shipped_detector_in_onnxruntime_on_real_photos(tmp_path):
    photos = ROOT.parent / "shared" / "data" / "cuhk" / "image"
    if not photos.is_dir():
        pytest.skip("needs the real photos")
    for program in PROGRAMS:
        export("u2netp-sod", tmp_path / f"a.{program}", program, photos=photos)  # raises if they differ
    assert len(list(tmp_path.iterdir())) == len(PROGRAMS)
