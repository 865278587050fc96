import io
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from input_pipeline.folder import Folder, read
from input_pipeline.records import DataError

FORMATS = {
    "jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    "jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    "png": ("PNG", {}),
    "bmp": ("BMP", {}),
    "tif": ("TIFF", {}),
    "tiff": ("TIFF", {}),
    "webp": ("WEBP", {"lossless": True}),
}
GREYS = np.array([[0, 60, 127], [128, 200, 255]], np.uint8)


def ramp(h=12, w=15, phase=0):
    """A smooth colour picture, which JPEG changes by a few levels at most."""
    y, x = np.mgrid[:h, :w]
    channels = [(8 * y + 40 * phase) % 256, 10 * x, 5 * (x + y) + 20]
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)


def noise(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def encoded(array, extension):
    kind, options = FORMATS[extension.lower()]
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def write(folder, name, array):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(encoded(array, path.suffix[1:]))
    return path


def write_pair(root, stem, image=None, mask=None):
    image = ramp() if image is None else image
    mask = np.where(np.arange(image.shape[1]) < 5, np.uint8(255), np.zeros(image.shape[:2], np.uint8))
    write(root / "images", f"{stem}.png", image)
    write(root / "masks", f"{stem}.png", mask)
    return mask


def png(w, h, depth, colour, rows):
    """A PNG file written by hand, for what Pillow does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def luma(rgb):
    return np.asarray(rgb, float) @ [0.299, 0.587, 0.114]


def close(got, expected, by=1):
    return np.abs(got.astype(float) - expected).max() <= by


extensions = st.sampled_from(sorted(FORMATS)).flatmap(lambda e: st.sampled_from([e, e.upper(), e.capitalize()]))
names = st.sampled_from(["a", "B", "img_0001", "x.y", "two words", "größe", "0", "-9", "A"])


@settings(max_examples=25, deadline=None)
@given(pairs=st.dictionaries(names, st.tuples(extensions, extensions), min_size=1, max_size=5))
def test_pairs_are_matched_by_stem_whatever_the_extensions(pairs):
    with tempfile.TemporaryDirectory() as folder:
        root, written = Path(folder), {}
        for number, (stem, (image_extension, mask_extension)) in enumerate(pairs.items()):
            image = ramp(h=12 + number, phase=number)
            mask = np.where(np.arange(15) < 3 * number + 2, np.uint8(255), np.zeros(image.shape[:2], np.uint8))
            write(root / "images", f"{stem}.{image_extension}", image)
            write(root / "masks", f"{stem}.{mask_extension}", mask)
            written[stem] = image, mask
        source = Folder(root)
        records = [source[i] for i in range(len(source))]
    assert [r["id"] for r in records] == sorted(pairs)
    for record in records:
        image, mask = written[record["id"]]
        lossy_image, lossy_mask = (e.lower() in ("jpg", "jpeg") for e in pairs[record["id"]])
        assert record["image"].shape == image.shape
        assert record["mask"].shape == mask.shape
        assert record["image"].dtype == record["mask"].dtype == np.uint8
        assert close(record["image"], image, 25 if lossy_image else 0)
        assert np.array_equal(record["mask"] >= 128, mask >= 128)
        assert lossy_mask or np.array_equal(record["mask"], mask)


def test_white_is_kept_and_the_folders_can_have_other_names(tmp_path, monkeypatch):
    write(tmp_path / "photo", "a.jpg", ramp())
    write(tmp_path / "gt", "a.png", ramp()[..., 0])
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    source = Folder(f"~/{tmp_path.name}", white="blur", images_dir="photo", masks_dir="gt")
    assert (source.white, len(source), source[0]["id"]) == ("blur", 1, "a")
    assert Folder(str(tmp_path), images_dir="photo", masks_dir="gt").white == "salient"
    with pytest.raises(IndexError):
        source[1]


def test_files_that_are_no_pictures_are_left_alone(tmp_path):
    mask = write_pair(tmp_path, "a")
    for folder in ("images", "masks"):
        for name in ("Thumbs.db", ".DS_Store", "a.txt", "a.json", "README", "._a.png", ".hidden.jpg"):
            (tmp_path / folder / name).write_text("no picture")
    (tmp_path / "images/old").mkdir()
    source = Folder(tmp_path)
    assert len(source) == 1
    assert np.array_equal(source[0]["image"], ramp())
    assert np.array_equal(source[0]["mask"], mask)


def test_what_is_transparent_is_white_in_a_photo_and_as_it_is_in_a_mask(tmp_path):
    colours = noise(5, 6)
    alpha = np.linspace(0, 255, 30).astype(np.uint8).reshape(5, 6, 1)
    path = write(tmp_path, "a.png", np.concatenate([colours, alpha], axis=-1))
    shown = alpha / 255 * colours + (1 - alpha / 255) * 255
    assert np.abs(read(path, "RGB") - shown).max() <= 1
    assert close(read(path, "L"), luma(colours))


def test_a_photo_of_which_little_is_opaque_is_no_mask(tmp_path):
    write_pair(tmp_path, "a")
    alpha = np.zeros((12, 15, 1), np.uint8)
    alpha[0, :2] = 255
    write(tmp_path / "masks", "a.png", np.concatenate([noise(12, 15), alpha], axis=-1))
    with pytest.raises(DataError, match="looks like a photo"):
        Folder(tmp_path)[0]


@pytest.mark.parametrize("colour", [0, 255])
def test_a_mask_of_nothing_but_transparency_is_named(tmp_path, colour):
    write_pair(tmp_path, "a")
    alpha = np.zeros((12, 15, 1), np.uint8)
    alpha[3:7] = 255
    path = write(tmp_path / "masks", "a.png", np.concatenate([np.full((12, 15, 3), colour, np.uint8), alpha], axis=-1))
    with pytest.raises(DataError, match=f"{path}: only its transparency marks anything; save that as a grey picture"):
        Folder(tmp_path)[0]
    for alpha[...] in (0, 255):  # which say nothing
        write(tmp_path / "masks", "a.png", np.concatenate([np.full((12, 15, 3), colour, np.uint8), alpha], axis=-1))
        assert (Folder(tmp_path)[0]["mask"] == colour).all()


def test_photos_and_masks_may_lie_in_one_folder_as_jpeg_and_png(tmp_path):
    mask = np.where(noise(12, 15)[..., 0] < 128, np.uint8(0), np.uint8(255))
    write(tmp_path / "Imgs", "a.jpg", noise(12, 15))
    write(tmp_path / "Imgs", "a.png", mask)
    (record,) = Folder(tmp_path, images_dir="Imgs", masks_dir="Imgs")
    assert np.array_equal(record["mask"], mask)
    write(tmp_path / "Imgs", "b.JPG", noise(12, 15))
    with pytest.raises(DataError, match="1 images without a mask: b"):
        Folder(tmp_path, images_dir="Imgs", masks_dir="./Imgs")


@pytest.mark.parametrize("transparent", [None, 1])
def test_a_palette_is_looked_up(tmp_path, transparent):
    palette = np.array([(0, 0, 0), (255, 255, 255), (200, 30, 90), (7, 120, 13)], np.uint8)
    indices = np.array([[0, 1, 2], [3, 2, 1]], np.uint8)
    picture = Image.fromarray(indices, "P")
    picture.putpalette(palette.tobytes())
    path = tmp_path / "a.png"
    picture.save(path, **({} if transparent is None else {"transparency": transparent}))
    with Image.open(path) as saved:
        assert saved.mode == "P"
    assert np.array_equal(read(path, "RGB"), palette[indices])  # the transparent entry is white
    assert close(read(path, "L"), luma(palette[indices]))
    assert read(path, "L")[0].tolist()[:2] == [0, 255]


@pytest.mark.parametrize("extension", ["png", "bmp", "tif"])
def test_one_bit_is_black_and_white(tmp_path, extension):
    bits = np.random.default_rng(0).random((9, 13)) < 0.5
    path = tmp_path / f"a.{extension}"
    Image.fromarray(bits).save(path)
    with Image.open(path) as saved:
        assert saved.mode == "1"
    expected = np.where(bits, np.uint8(255), np.uint8(0))
    assert np.array_equal(read(path, "L"), expected)
    assert np.array_equal(read(path, "RGB"), np.repeat(expected[..., None], 3, axis=-1))


@pytest.mark.parametrize("alpha", [None, 255, 0])
def test_grey_with_and_without_transparency_keeps_its_levels(tmp_path, alpha):
    levels = GREYS if alpha is None else np.stack([GREYS, np.full_like(GREYS, alpha)], axis=-1)
    path = write(tmp_path, "a.png", levels)
    assert np.array_equal(read(path, "L"), GREYS)
    seen = np.full_like(GREYS, 255) if alpha == 0 else GREYS
    assert np.array_equal(read(path, "RGB"), np.repeat(seen[..., None], 3, axis=-1))


def test_cmyk_becomes_the_colours_that_its_inks_leave(tmp_path):
    inks = np.random.default_rng(0).integers(0, 256, (6, 7, 4), dtype=np.uint8)
    inks[:2, :, 3] = 0
    path = tmp_path / "a.tif"
    Image.fromarray(inks, "CMYK").save(path)
    left = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
    assert close(read(path, "RGB"), left)
    assert close(read(path, "L"), luma(left), 2)


def test_a_cmyk_jpeg_becomes_rgb(tmp_path):
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:, 8:] = 0, 255, 255, 0
    path = tmp_path / "a.jpg"
    Image.fromarray(inks, "CMYK").save(path, quality=95)
    image = read(path, "RGB")
    assert close(image[:, :7], 255.0, 4)
    assert close(image[:, 9:], np.array([255.0, 0, 0]), 4)


def test_sixteen_bits_a_colour_keep_the_upper_eight(tmp_path):
    levels = np.random.default_rng(0).integers(0, 2**16, (4, 5, 3), dtype=np.uint16)
    path = tmp_path / "a.png"
    path.write_bytes(png(5, 4, 16, 2, [row.astype(">u2").tobytes() for row in levels]))
    assert close(read(path, "RGB"), levels / 257)


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bit_masks_of_black_and_white(tmp_path, extension):
    marked = np.random.default_rng(0).random((5, 6)) < 0.5
    path = tmp_path / f"a.{extension}"
    Image.fromarray(np.where(marked, np.uint16(65535), np.uint16(0))).save(path)
    assert np.array_equal(read(path, "L"), np.where(marked, np.uint8(255), np.uint8(0)))


@pytest.mark.parametrize("extension", ["png", "tif"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path, extension, mode):
    levels = np.linspace(0, 65535, 30).astype(np.uint16).reshape(5, 6)
    path = tmp_path / f"a.{extension}"
    Image.fromarray(levels).save(path)
    expected = levels / 257 if mode == "L" else np.repeat(levels[..., None] / 257, 3, axis=-1)
    assert close(read(path, mode), expected)


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_a_tiff_that_pillow_would_turn_is_refused(tmp_path, folder):
    write_pair(tmp_path, "a")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 0  # none that there is
    (file,) = (tmp_path / folder).iterdir()
    with Image.open(file) as picture:
        picture.load()
    file.unlink()
    picture.save(tmp_path / folder / "a.tif", exif=exif)
    assert len(Folder(tmp_path)) == 1
    exif[ExifTags.Base.Orientation] = 3
    picture.save(tmp_path / folder / "a.tif", exif=exif)
    with pytest.raises(DataError, match=r"a\.tif: it is a TIFF that is to be turned .*; save it upright"):
        Folder(tmp_path)


def test_exif_rotation_is_ignored_since_masks_have_none(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it by 90°
    image = np.zeros((20, 32, 3), np.uint8)
    image[:, 16:] = 255
    (tmp_path / "images").mkdir()
    Image.fromarray(image).save(tmp_path / "images/a.jpg", exif=exif)
    mask = image[..., 0]
    write(tmp_path / "masks", "a.png", mask)
    record = Folder(tmp_path)[0]
    assert record["image"].shape == (20, 32, 3)
    assert np.array_equal(record["image"][..., 0] >= 128, mask >= 128)
