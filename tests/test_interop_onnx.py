"""The published U²-Netp as an ONNX file: our network gives what the file gives, and can be calibrated to train."""

import json
import shutil
import sys
from dataclasses import replace
from itertools import pairwise

import jax
import numpy as np
import pytest
from conftest import ROOT
from flax import nnx

from afiu_jax import create_model
from afiu_jax.errors import UserError
from afiu_jax.evaluation import evaluate
from afiu_jax.export import export
from afiu_jax.inference import Predictor
from afiu_jax.interop import importing, load_torch_checkpoint
from afiu_jax.interop.calibrate import calibrate
from afiu_jax.interop.importing import import_weights
from afiu_jax.networks import abstract_model
from afiu_jax.networks.published import PUBLISHED
from afiu_jax.training.checkpoint import load_model
from input_pipeline.loader import Preparation
from input_pipeline.photos import Photos
from input_pipeline.sources import Spec, open_source

SHARED = ROOT.parent / "shared"
FILE = SHARED / "weights" / "u2netp.onnx"
PHOTOS = SHARED / "data" / "msra10k" / "val" / "images"
SIDE = 320
SIDE2 = 1.5e-4
"""Of the map of side2, where either program is 1e-4 from float64: a convolution sums up −1361 for a bias of 1361."""

onnx = pytest.importorskip("onnx")
needs_file = pytest.mark.skipif(not (FILE.is_file() and PHOTOS.is_dir()), reason="needs the published u2netp.onnx")


def photos(count: int) -> np.ndarray:
    source, preparation = Photos([PHOTOS]), Preparation((SIDE, SIDE), "max-imagenet")
    return np.stack([preparation.finish(preparation.shrink(source[i]))["image"] for i in range(count)])


@pytest.fixture(scope="module")
def u2netp() -> tuple[nnx.Module, tuple[str, ...]]:
    model = create_model("u2netp")
    return model, load_torch_checkpoint(model, FILE).folded


@pytest.fixture(scope="module")
def maps(u2netp):
    """All seven maps of one image by a network with the structure of U²-Netp."""
    model, _ = u2netp
    model.eval()
    graph = nnx.graphdef(model)

    @jax.jit
    def run(state, image):
        prediction = nnx.merge(graph, state)(image[None])
        return [jax.nn.sigmoid(logits)[0, ..., 0] for logits in (prediction.logits, *prediction.side_logits)]

    return lambda model, image: [np.asarray(found) for found in run(nnx.state(model), image)]


@needs_file
def test_every_convolution_has_its_place(u2netp):
    _, folded = u2netp
    assert len(folded) == 112
    report = load_torch_checkpoint(create_model("u2netp"), FILE)
    assert len(report.loaded) == 686
    assert "112 batch normalisations were folded" in report.describe()


@needs_file
@pytest.mark.parametrize("count", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_the_file_and_the_network_give_the_same_seven_maps(u2netp, maps, count):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(FILE, providers=["CPUExecutionProvider"])
    for image in photos(count):
        theirs = session.run(None, {"input.1": image.transpose(2, 0, 1)[None]})
        for i, (found, expected) in enumerate(zip(maps(u2netp[0], image), theirs, strict=True)):
            np.testing.assert_allclose(found, expected[0, 0], atol=SIDE2 if i == 2 else 1e-4, rtol=0)


@needs_file
@pytest.mark.slow
def test_scores_on_sed2_are_those_of_the_file(tmp_path):
    """100 photos as ``afiu import-weights`` and ``afiu evaluate`` score them, beside the maps of onnxruntime."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(FILE, providers=["CPUExecutionProvider"])
    import_weights("u2netp", FILE, tmp_path / "run")
    sed2 = open_source(Spec("folder", str(SHARED / "data" / "sed2")), "salient")
    ours, theirs = Predictor(tmp_path / "run"), Predictor(tmp_path / "run", batch_size=1)

    def run_file(*state_and_images):
        (maps,) = session.run(["1959"], {"input.1": state_and_images[-1].transpose(0, 3, 1, 2)})
        return maps.transpose(0, 2, 3, 1)

    theirs._predict = run_file
    expected = evaluate(theirs, sed2).scores
    for name, score in evaluate(ours, sed2).scores.items():
        assert abs(score - expected[name]) <= 1e-3, name


@needs_file
def test_calibration_leaves_the_maps_as_they_are(u2netp, maps):
    model, folded = u2netp
    images = photos(6)
    calibrated = nnx.clone(model)
    assert calibrate(calibrated, folded, images[:4]) == 4
    assert not np.allclose(calibrated.stage1.embed.norm.mean[...], 0)
    for image in images:
        for found, expected in zip(maps(calibrated, image), maps(model, image), strict=True):
            # Rounding, which differs from processor to processor: 1.4e-5 at most on an Intel Xeon.
            np.testing.assert_allclose(found, expected, atol=5e-5, rtol=0)


@needs_file
def test_of_many_photos_some_at_equal_distances_are_taken(u2netp, tmp_path, monkeypatch, capsys):
    """By ``afiu import-weights --calibrate``, here 3 of 7; and then nothing is said against training."""
    monkeypatch.setattr(importing, "CALIBRATION_PHOTOS", 3)
    monkeypatch.setitem(PUBLISHED, "u2netp", replace(PUBLISHED["u2netp"], image_size=32))
    (tmp_path / "photos").mkdir()
    for i, file in enumerate(sorted(PHOTOS.iterdir())[:7]):
        shutil.copy(file, tmp_path / "photos" / f"{i}{file.suffix}")
    import_weights("u2netp", FILE, tmp_path / "run", photos=tmp_path / "photos")
    printed = " ".join(capsys.readouterr().out.split())
    assert f"from 3 photos, evenly spread over the 7 of {tmp_path}/photos" in printed
    assert "training would undo it" not in printed
    assert json.loads((tmp_path / "run" / "import.json").read_text())["photos"] == 3

    source, preparation = Photos([tmp_path / "photos"]), Preparation((32, 32), "max-imagenet")
    images = np.stack([preparation.finish(preparation.shrink(source[i]))["image"] for i in (0, 3, 6)])
    found = load_model(tmp_path / "run").batch_stats["stage1.embed.norm.mean"]
    expected = np.asarray(u2netp[0].stage1.embed.conv(images)).mean((0, 1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_photos_at_equal_distances():
    assert importing.evenly_spread(7, 3) == [0, 3, 6]
    assert importing.evenly_spread(3, 500) == [0, 1, 2]
    assert importing.evenly_spread(1, 500) == [0]
    many = importing.evenly_spread(6000, 500)
    assert len(set(many)) == 500
    assert {b - a for a, b in pairwise(many)} == {12, 13}
    assert (many[0], many[-1]) == (0, 5999)


@needs_file
def test_the_file_of_another_network_is_refused(tmp_path, monkeypatch):
    small, u2net, basnet = (abstract_model(n, **o) for n, o in (
        ("u2netp", {"mid": 8}), ("u2net", {}), ("basnet", {})
    ))  # fmt: skip
    with pytest.raises(UserError, match=r"Conv_2 is \(16, 64, 3, 3\), stage1\.rebnconv1\.conv_s1\.weight is \(8, 64"):
        load_torch_checkpoint(small, FILE)
    with pytest.raises(UserError, match="does not fit u2net: "):
        load_torch_checkpoint(u2net, FILE)
    with pytest.raises(UserError, match="does not fit basnet: it has 119 convolutions, the network 87"):
        load_torch_checkpoint(basnet, FILE)
    whole = FILE.read_bytes()
    (tmp_path / "short.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged"):
        load_torch_checkpoint(small, tmp_path / "short.onnx")
    with pytest.raises(UserError, match="no file"):
        load_torch_checkpoint(small, tmp_path / "none.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"uv sync --extra export, or pip install onnx"):
        load_torch_checkpoint(small, FILE)


def test_a_program_of_ours_is_refused(pocket, pocket_run, tmp_path):
    """It gives maps, perhaps turned over, of images of its own preparation; as published weights it would lose that."""
    pytest.importorskip("jax2onnx")
    path = export(pocket_run, tmp_path / "a.onnx", "onnx").path
    with pytest.raises(UserError, match=r"a\.onnx is a program of afiu export.*export it as --format safetensors"):
        load_torch_checkpoint(create_model("u2netp"), path)


@needs_file
def test_a_graph_of_equal_shapes_and_other_wiring_is_refused(tmp_path):
    """stage1's second and third encoding units, 16 channels to 16, with each other's inputs."""
    proto = onnx.load(FILE)
    second, third = (node for node in proto.graph.node if node.name in ("Conv_5", "Conv_8"))
    second.input[0], third.input[0] = third.input[0], second.input[0]
    onnx.save(proto, tmp_path / "rewired.onnx")
    with pytest.raises(UserError, match=r"Conv_5 and stage1\.rebnconv2\.conv_s1\.weight come after other"):
        load_torch_checkpoint(create_model("u2netp"), tmp_path / "rewired.onnx")


@needs_file
def test_a_normalisation_that_was_not_folded_keeps_its_statistics(tmp_path):
    """One of the graph's convolutions with a normalisation after it, and its kernel under another name, too."""
    proto = onnx.load(FILE)
    convolution = next(node for node in proto.graph.node if node.name == "Conv_2")
    output, kernel = convolution.output[0], convolution.input[1]
    values = {leaf: np.arange(1.0, 17.0, dtype=np.float32) + i for i, leaf in enumerate("abcd")}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(value, leaf) for leaf, value in values.items())
    convolution.output[0], convolution.input[1] = "raw", "renamed"
    index = list(proto.graph.node).index(convolution)
    proto.graph.node.insert(index + 1, onnx.helper.make_node("BatchNormalization", ["raw", *values], [output]))
    proto.graph.node.insert(index, onnx.helper.make_node("Identity", [kernel], ["renamed"]))
    onnx.save(proto, tmp_path / "unfolded.onnx")
    model = create_model("u2netp")
    report = load_torch_checkpoint(model, tmp_path / "unfolded.onnx")
    norm = model.stage1.encode[0].norm
    for leaf, value in zip(("scale", "bias", "mean", "var"), values.values(), strict=True):
        np.testing.assert_array_equal(getattr(norm, leaf)[...], value)
    assert "stage1.encode.0.norm" not in report.folded
    assert len(report.folded) == 111
    proto.graph.node.remove(next(node for node in proto.graph.node if node.op_type == "Identity"))
    onnx.save(proto, tmp_path / "quantised.onnx")
    with pytest.raises(UserError, match="renamed of Conv_2 is computed; quantised files cannot be read"):
        load_torch_checkpoint(model, tmp_path / "quantised.onnx")
