"""Maps of one's own photos: every format, size and kind of damage that a folder of photos has."""

import copy
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import afiu_jax
from afiu_jax.commands.predict import predict
from afiu_jax.errors import UserError
from afiu_jax.inference import Predictor, load
from afiu_jax.views import render
from afiu_jax.weights import FOLDER, load_weights, shipped
from input_pipeline.pictures import photo_pixels, read_photo

SHARED = ROOT.parent / "shared"
SIZE = 64


@pytest.fixture(scope="module")
def predictor():
    return load("u2netp-sod", size=SIZE)


def sixteen(array):
    return Image.fromarray(array.astype(np.uint16) * 257)


FORMATS = {
    "colour.jpg": lambda p: Image.fromarray(p),
    "colour.png": lambda p: Image.fromarray(p),
    "colour.bmp": lambda p: Image.fromarray(p),
    "colour.tif": lambda p: Image.fromarray(p),
    "colour.webp": lambda p: Image.fromarray(p),
    "grey.jpg": lambda p: Image.fromarray(p).convert("L"),
    "black-and-white.png": lambda p: Image.fromarray(p).convert("1"),
    "sixteen.png": lambda p: sixteen(p[..., 1]),
    "sixteen.tif": lambda p: sixteen(p[..., 1]),
    "thirty-two.tif": lambda p: Image.fromarray(p[..., 1].astype(np.int32) * 257),
    "float.tif": lambda p: Image.fromarray(p[..., 1].astype(np.float32) / 255),
    "rgba.png": lambda p: Image.fromarray(np.dstack([p, np.full(p.shape[:2], 255, np.uint8)])),
    "grey-alpha.png": lambda p: Image.fromarray(np.dstack([p[..., 1], np.full(p.shape[:2], 255, np.uint8)])),
    "palette.png": lambda p: Image.fromarray(p).quantize(256),
    "cmyk.jpg": lambda p: Image.fromarray(p).convert("CMYK"),
    "cmyk.tif": lambda p: Image.fromarray(p).convert("CMYK"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_kind_of_picture_gives_the_map_of_what_is_seen(name, photo, predictor, tmp_path):
    FORMATS[name](photo).save(tmp_path / name)
    found = predictor.predict(tmp_path / name)
    assert found.shape == photo.shape[:2]
    assert found.dtype == np.float32
    grey = ("grey", "sixteen", "thirty", "float", "black")
    seen = np.repeat(photo[..., 1:2], 3, -1) if name.startswith(grey) else photo
    # Black and white is another picture; lossy formats and palettes are nearly this one.
    if not name.startswith("black"):
        assert np.abs(found - predictor.predict(seen)).mean() < 0.06


def test_all_ways_to_give_a_photo_agree(photo, predictor, tmp_path):
    Image.fromarray(photo).save(tmp_path / "a.png")
    expected = predictor.predict(photo)
    assert 0 <= expected.min() < expected.max() <= 1
    for given in (
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        Image.fromarray(photo),
        photo.astype(np.uint16) * 257,
        photo / 255,
        (photo / 255).astype(np.float32),
        np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)]),
        jnp.asarray(photo),
    ):
        np.testing.assert_allclose(predictor.predict(given), expected, atol=1e-6)
    coarse = jnp.asarray(photo / 255, jnp.bfloat16)
    np.testing.assert_allclose(predictor.predict(coarse), predictor.predict(np.float32(coarse)), atol=1e-6)
    grey = photo[..., 0]
    np.testing.assert_allclose(predictor.predict(grey), predictor.predict(grey[..., None]), atol=1e-6)


def test_a_list_gives_a_list_in_order_whatever_the_sizes(photo, predictor):
    photos = [photo, photo[:, :40], photo.transpose(1, 0, 2), photo[:30]]
    maps = predictor.predict(photos)
    assert [m.shape for m in maps] == [p.shape[:2] for p in photos]
    for given, found in zip(photos, maps, strict=True):
        np.testing.assert_allclose(found, predictor.predict(given), atol=1e-5)
    assert predictor.predict([]) == []


@pytest.mark.parametrize("file", ["a.png", "colour.tif", "grey.tif", "transparent.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_their_exif_data_say(orientation, file, photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    mode = {"grey.tif": "L", "transparent.tif": "RGBA"}.get(file, "RGB")
    Image.fromarray(photo).convert(mode).save(tmp_path / file, exif=exif)
    photo = np.asarray(Image.fromarray(photo).convert(mode).convert("RGB"))
    # EXIF 2.32, table 6: where row 0 and column 0 of the file lie in the picture.
    seen = {
        1: photo, 2: photo[:, ::-1], 3: photo[::-1, ::-1], 4: photo[::-1],
        5: photo.transpose(1, 0, 2), 6: np.rot90(photo, -1), 7: photo[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(photo),
    }[orientation]  # fmt: skip
    np.testing.assert_array_equal(read_photo(tmp_path / file), seen)
    with Image.open(tmp_path / file) as picture:
        np.testing.assert_array_equal(photo_pixels(picture), seen)
        assert picture.filename == str(tmp_path / file)


def test_transparent_is_white(photo, predictor, tmp_path):
    opaque = np.zeros(photo.shape[:2], np.uint8)
    opaque[20:50, 30:70] = 255
    Image.fromarray(np.dstack([photo, opaque])).save(tmp_path / "a.png")
    white = np.where(opaque[..., None] > 0, photo, 255).astype(np.uint8)
    np.testing.assert_allclose(predictor.predict(tmp_path / "a.png"), predictor.predict(white), atol=1e-6)


def test_floats_a_little_above_1_are_cut_off_there(tmp_path):
    """They are not taken for levels of 255, which would make the picture black."""
    levels = np.linspace(0, 1.1, 48, dtype=np.float32).reshape(6, 8)
    Image.fromarray(levels).save(tmp_path / "a.tif")
    expected = np.rint(levels.clip(0, 1) * 255).astype(np.uint8)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif")[..., 0], expected)


def test_16_bits_keep_their_levels_beside_a_transparent_one(tmp_path):
    """A PNG of 16-bit grey whose level 5 is transparent, which Pillow would clip at 255 on the way to colours."""
    levels = np.linspace(0, 65535, 48, dtype=np.uint16).reshape(6, 8)
    Image.fromarray(levels).save(tmp_path / "a.png", transparency=5)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.has_transparency_data
        found = photo_pixels(picture)
    np.testing.assert_array_equal(found, np.rint(levels / 257).astype(np.uint8)[..., None].repeat(3, -1))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 5, 2), np.uint8),
        np.zeros((3,), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((4, 5, 3), np.int32),
        np.full((4, 5, 3), 2.0),
        np.full((4, 5, 3), np.nan),
    ],
)
def test_arrays_that_are_no_picture_are_refused(array, predictor):
    with pytest.raises(UserError, match="a photo"):
        predictor.predict(array)


def test_large_photos_are_smoothed_before_they_are_shrunk(predictor):
    """Alternate black and white rows look grey from afar; unsmoothed sampling makes anything of them."""
    stripes = np.zeros((SIZE * 4, SIZE * 4, 3), np.uint8)
    stripes[::2] = 255
    assert predictor._prepare(stripes)[2:-2, 2:-2].std(axis=(0, 1)).max() < 0.1
    plain = Predictor("u2netp-sod", size=SIZE)  # as published loaders do
    rolled = stripes[: SIZE * 4 - 3]
    assert plain._prepare(rolled).std(axis=(0, 1)).max() > 0.5


def test_a_panorama_is_not_shrunk_below_what_the_network_sees(predictor):
    """Sixteen to one: rows of black and white lines, of which the network's size holds as many as there are."""
    lines = np.zeros((SIZE, SIZE * 16, 3), np.uint8)
    lines[::2] = 255
    assert predictor._prepare(lines).std(axis=(0, 1)).min() > 1


# Native size


def test_what_a_network_smooths_itself_is_smoothed_once(photo):
    """As in ``afiu evaluate``, and as exported programs say that it is done."""
    large = np.asarray(Image.fromarray(photo).resize((400, 300)))
    once, found = Predictor("u2netp-dbd", size=SIZE), load("u2netp-dbd", size=SIZE)
    np.testing.assert_array_equal(found.predict(large), once.predict(large))


def test_native_maps_have_every_size_and_keep_their_order(pocket, pocket_run, photo, tmp_path):
    native = load(pocket_run, size="native", batch_size=2)
    photos = [photo, photo, photo, photo[:33, :47], photo]
    maps = native.predict(photos)
    assert [m.shape for m in maps] == [p.shape[:2] for p in photos]
    np.testing.assert_allclose(maps[0], maps[4], atol=1e-5)
    np.testing.assert_allclose(maps[3], native.predict(photos[3]), atol=1e-5)


def test_strips_and_dots_have_a_native_map(pocket, pocket_run, photo):
    native = load(pocket_run, size="native")
    assert native.predict(photo[:1, :1]).shape == (1, 1)
    assert native.predict(np.resize(photo, (20, 1500, 3))).shape == (20, 1500)


# Weights


def test_the_package_brings_networks_with_their_cards():
    assert "u2netp-sod" in shipped()
    for name in shipped():
        card = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
        assert name in card
        assert load_weights(name).config["task"]["name"] == name.rpartition("-")[2]
    assert sum((FOLDER / f"{name}.safetensors").stat().st_size for name in shipped()) <= 8e6


def test_the_shipped_detector_gives_the_published_networks_maps():
    """onnxruntime on the published file is the reference."""
    onnxruntime = pytest.importorskip("onnxruntime")
    file, photos = SHARED / "weights" / "u2netp.onnx", SHARED / "data" / "cuhk" / "image"
    if not (file.exists() and photos.exists()):
        pytest.skip("the published network is not here")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    ours = load("u2netp-sod")
    for path in sorted(photos.iterdir())[:2]:
        image = ours._prepare(np.asarray(Image.open(path).convert("RGB")))[None]
        (theirs,) = session.run(
            [session.get_outputs()[0].name], {session.get_inputs()[0].name: image.transpose(0, 3, 1, 2)}
        )
        # The weights are float16; with those of float32, the largest difference is 5e-5 (docs/weights.md).
        assert np.abs(ours._run(image) - theirs[:, 0]).mean() < 0.002


def test_names_of_networks_may_be_those_of_folders(photo, workplace):
    Image.fromarray(photo).save("a.jpg")
    for _ in range(2):
        assert predict(["a.jpg"], Path("u2netp-sod"), weights="u2netp-sod", size=str(SIZE)) == 0
    assert [path.name for path in Path("u2netp-sod").iterdir()] == ["a.png"]
    Path("u2netp-sod/checkpoints").mkdir()
    with pytest.raises(UserError, match="no checkpoint in"):  # a run's folder comes first
        load("u2netp-sod")


@pytest.mark.parametrize("size", [0, -1, True, 10**9])
def test_sizes_that_are_none_are_refused(size):
    with pytest.raises(UserError, match=r"size is .*: give a number of pixels up to 4096, such as 320, or native"):
        load("u2netp-sod", size=size)


def test_a_picture_that_pillow_has_not_decoded_yet_may_be_damaged(photo, predictor, tmp_path):
    Image.fromarray(photo).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) * 9 // 10])
    with Image.open(tmp_path / "a.jpg") as picture, pytest.raises(UserError, match="cannot read the picture: image"):
        predictor.predict(picture)


@pytest.mark.parametrize("weights", ["u2netp-sdo", "runs/none", "none.safetensors"])
def test_unknown_weights_name_those_that_there_are(weights, workplace):
    with pytest.raises(UserError, match="u2netp-sod"):
        load(weights)


def test_files_of_published_weights_are_to_be_imported(workplace):
    Path("net.onnx").write_bytes(b"weights")
    with pytest.raises(UserError, match=r"afiu import-weights --model NETWORK --from net\.onnx --out DIR"):
        load("net.onnx")


def test_weights_beyond_bounds_are_told_and_no_map_is_made(predictor, photo):
    broken = copy.copy(predictor)
    broken._predict = lambda *state_and_images: np.full((1, SIZE, SIZE, 1), np.nan, np.float32)
    with pytest.raises(UserError, match="are not finite: its weights are beyond bounds"):
        broken.predict(photo)


def test_a_damaged_weights_file_is_refused(workplace):
    whole = (FOLDER / "u2netp-sod.safetensors").read_bytes()
    Path("cut.safetensors").write_bytes(whole[: len(whole) // 2])
    Path("text.safetensors").write_text("nothing")
    for name in ("cut", "text"):
        with pytest.raises(UserError, match=f"cannot read {name}"):
            load(f"{name}.safetensors")


def test_the_package_imports_nothing_heavy_and_still_offers_load():
    code = "import sys, afiu_jax; assert 'jax' not in sys.modules; print(afiu_jax.load)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "function load" in done.stdout
    assert set(afiu_jax.__all__) >= {"load", "Predictor", "create_model", "Prediction"}


# Views


def test_views_show_what_they_should(photo):
    h, w, _ = photo.shape
    found = np.zeros((h, w), np.uint8)
    found[:, w // 2 :] = 255
    np.testing.assert_array_equal(render("map", photo, found, "blur"), found)
    overlay = np.asarray(render("overlay", photo, found, "blur")).astype(int)
    np.testing.assert_array_equal(overlay[:, : w // 2], photo[:, : w // 2])
    assert (overlay[:, w // 2 :, 0] >= 0.6 * 255).all()
    for positive, alpha in (("blur", 255 - found), ("salient", found)):
        cutout = np.asarray(render("cutout", photo, found, positive))
        np.testing.assert_array_equal(cutout[..., 3], alpha)
        np.testing.assert_array_equal(cutout[..., :3], photo)
    pair = np.asarray(render("side-by-side", photo, found, "blur"))
    np.testing.assert_array_equal(pair[:h, :w], photo)
    np.testing.assert_array_equal(pair[-h:, -w:, 0], found)
