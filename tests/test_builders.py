import pickle
import shutil
import sys
import urllib.error
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from faults import cut, empty, flip
from PIL import Image

from input_pipeline import prepare as prepare_module
from input_pipeline.builders import BUILDERS, builder_class
from input_pipeline.builders import files as files_module
from input_pipeline.builders.cuhk_defocus.cuhk_defocus import split_names
from input_pipeline.prepare import describe, prepare
from input_pipeline.records import DataError
from input_pipeline.tfds_source import open_tfds

W, H = 12, 8


def mask_levels(left=255, right=0):
    """A mask whose left half differs from its right half."""
    levels = np.full((H, W), right, np.uint8)
    levels[:, : W // 2] = left
    return levels


def photo(seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (H, W, 3), np.uint8))


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def make_pairs(images, masks, stems, image_suffix=".jpg", mask_suffix=".png"):
    for seed, stem in enumerate(stems):
        save(images / (stem + image_suffix), photo(seed))
        save(masks / (stem + mask_suffix), Image.fromarray(mask_levels()))


def records(name, split, data_dir):
    source = open_tfds(name, split, data_dir)
    return {record["id"]: record for record in (source[index] for index in range(len(source)))}


def build(name, files, tmp_path):
    return prepare(name, manual_dir=files, data_dir=tmp_path / "data")


# dataset, white, {split: (images, masks, image suffix, mask suffix)} in the official layout
LAYOUTS = [
    (
        "duts",
        "salient",
        {
            "train": ("DUTS-TR/DUTS-TR-Image", "DUTS-TR/DUTS-TR-Mask", ".jpg", ".png"),
            "test": ("DUTS-TE/DUTS-TE-Image", "DUTS-TE/DUTS-TE-Mask", ".jpg", ".png"),
        },
    ),
    ("ecssd", "salient", {"test": ("images", "ground_truth_mask", ".jpg", ".png")}),
    ("sod", "salient", {"test": ("images", "masks", ".jpg", ".png")}),
    ("hku_is", "salient", {"test": ("HKU-IS/imgs", "HKU-IS/gt", ".png", ".png")}),
    ("pascal_s", "salient", {"test": ("datasets/imgs/pascal", "datasets/masks/pascal", ".jpg", ".png")}),
    ("dut_omron", "salient", {"test": ("DUT-OMRON-image", "pixelwiseGT-new-PNG", ".jpg", ".png")}),
    (
        "dut_defocus",
        "focus",
        {
            "train": (
                "DUT-DBD_Dataset/DUT600S_Training",
                "DUT-DBD_Dataset/DUT600GT_Training",
                ".jpg",
                ".bmp",
            ),
            "test": ("DUT-DBD_Dataset/DUT500S-Testing", "DUT-DBD_Dataset/DUT500GT-Testing", ".jpg", ".bmp"),
        },
    ),
    ("ctcug", "blur", {"test": ("CTCUG/CTCUG_images", "CTCUG/CTCUG_gt", ".jpg", ".png")}),
]


@pytest.mark.parametrize(("name", "white", "splits"), LAYOUTS, ids=[layout[0] for layout in LAYOUTS])
def test_official_layout_reads_back(name, white, splits, tmp_path):
    for split, (images, masks, *suffixes) in splits.items():
        make_pairs(tmp_path / "in" / images, tmp_path / "in" / masks, [f"{split}{i}" for i in range(4)], *suffixes)
    summary = build(name, tmp_path / "in", tmp_path)
    assert summary.built
    assert summary.counts == dict.fromkeys(splits, 4)
    assert f"white = {white}" in str(summary)
    for split in splits:
        source = open_tfds(name, split, tmp_path / "data")
        assert source.white == white == summary.white
        found = records(name, split, tmp_path / "data")
        assert sorted(found) == [f"{split}{i}" for i in range(4)]
        for record in found.values():
            assert record["image"].shape == (H, W, 3) and record["image"].dtype == np.uint8
            np.testing.assert_array_equal(record["mask"], mask_levels())
    assert "tensorflow" not in sys.modules


def test_every_builder_declares_itself_and_describes_how_to_get_it():
    for name in BUILDERS:
        cls = builder_class(name)
        assert cls.name == name
        assert cls.WHITE in ("salient", "blur", "focus")
        assert cls.MANUAL_DOWNLOAD_INSTRUCTIONS in describe(name)
        assert cls.CITATION in describe(name)


def test_a_builder_that_tfds_calls_otherwise_is_told(monkeypatch):
    package = import_module("input_pipeline.builders.cuhk_defocus")
    monkeypatch.setitem(BUILDERS, "cuhkdefocus", "CuhkDefocus")
    monkeypatch.setitem(sys.modules, "input_pipeline.builders.cuhkdefocus", package)
    with pytest.raises(DataError, match="class CuhkDefocus is cuhk_defocus to TFDS, not cuhkdefocus"):
        builder_class("cuhkdefocus")


def test_cuhk_takes_the_published_split_and_leaves_motion_out(tmp_path):
    train, test = split_names("train"), split_names("test")
    assert (len(train), len(test), len(train & test)) == (604, 100, 0)
    assert train | test == {f"out_of_focus{number:04d}" for number in range(1, 705)}
    stems = [*sorted(train)[:3], *sorted(test)[:2], "motion0001"]
    make_pairs(tmp_path / "in/image", tmp_path / "in/gt", stems)
    assert build("cuhk_defocus", tmp_path / "in", tmp_path).counts == {"train": 3, "test": 2}
    assert sorted(records("cuhk_defocus", "train", tmp_path / "data")) == stems[:3]
    assert sorted(records("cuhk_defocus", "test", tmp_path / "data")) == stems[3:5]
    assert open_tfds("cuhk_defocus", "train+test", tmp_path / "data").white == "blur"


def test_colour_modes_and_stray_files(tmp_path):
    images, masks = tmp_path / "in/images", tmp_path / "in/ground_truth_mask"
    grey = Image.fromarray(mask_levels())
    alpha = Image.fromarray(np.full((H, W), 255, np.uint8))
    palette = Image.fromarray((mask_levels() > 0).astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    dirty = {
        "rgba": Image.merge("RGBA", (grey, grey, grey, alpha)),
        "grey_alpha": Image.merge("LA", (grey, alpha)),
        "palette": palette,
        "one_bit": grey.convert("1"),
        "soft": Image.fromarray(mask_levels(250, 3)),
    }
    for stem, mask in dirty.items():
        save(images / f"{stem}.JPG", photo())
        save(masks / f"{stem}.PNG", mask)
    save(images / "rgba.JPG", photo().convert("CMYK"))
    save(images / "palette.JPG", photo().convert("L"))
    save(masks / "soft.jpg", Image.new("L", (W, H)))
    for litter in (images / "Thumbs.db", masks / ".DS_Store", masks / "._soft.png"):
        litter.write_bytes(b"no picture")
    save(tmp_path / "in/__MACOSX/images/soft.jpg", photo())
    build("ecssd", tmp_path / "in", tmp_path)
    found = records("ecssd", "test", tmp_path / "data")
    assert sorted(found) == sorted(dirty)
    for stem, record in found.items():
        assert record["image"].shape == (H, W, 3)
        expected = mask_levels(250, 3) if stem == "soft" else mask_levels()
        np.testing.assert_array_equal(record["mask"], expected, err_msg=stem)


def test_what_is_transparent_in_a_photo_is_white(tmp_path):
    """As in a folder, and for ``afiu predict``."""
    opaque = Image.fromarray(mask_levels())
    save(tmp_path / "in/images/a.png", Image.merge("RGBA", (*photo().split(), opaque)))
    save(tmp_path / "in/masks/a.png", Image.fromarray(mask_levels()))
    build("sod", tmp_path / "in", tmp_path)
    image = records("sod", "test", tmp_path / "data")["a"]["image"]
    assert (image[mask_levels() == 0] == 255).all()
    assert (image[mask_levels() == 255] != 255).any()


def test_a_mask_of_nothing_but_transparency_is_refused(tmp_path):
    save(tmp_path / "in/images/a.png", photo())
    save(tmp_path / "in/masks/a.png", Image.merge("LA", (Image.new("L", (W, H)), Image.fromarray(mask_levels()))))
    with pytest.raises(DataError, match=r"masks/a\.png: only its transparency marks anything"):
        build("sod", tmp_path / "in", tmp_path)


def test_jpeg_bytes_are_stored_as_they_are(tmp_path):
    make_pairs(tmp_path / "in/images", tmp_path / "in/masks", ["a"])
    folder = build("sod", tmp_path / "in", tmp_path).folder
    raw = {"image": tfds.decode.SkipDecoding()}
    stored = tfds.builder_from_directory(folder).as_data_source("test", decoders=raw)[0]["image"]
    assert stored == (tmp_path / "in/images/a.jpg").read_bytes()


def test_duts_pairs_of_different_size(tmp_path):
    images, masks = tmp_path / "in/DUTS-TR/DUTS-TR-Image", tmp_path / "in/DUTS-TR/DUTS-TR-Mask"
    corrected, alone = "ILSVRC2014_train_00023530", "n04442312_17818"
    make_pairs(images, masks, [corrected, alone])
    large = Image.fromarray(mask_levels()).resize((2 * W, 2 * H), Image.Resampling.NEAREST)
    save(masks / f"{alone}.png", large)
    # As in the old archive: the wrong mask as PNG, the right one beside it as JPEG.
    save(masks / f"{corrected}.png", large)
    save(masks / f"{corrected}.jpg", Image.new("L", (W, H), 255))
    build("duts", tmp_path / "in", tmp_path)
    found = records("duts", "train", tmp_path / "data")
    np.testing.assert_array_equal(found[alone]["mask"], mask_levels())
    np.testing.assert_array_equal(found[corrected]["mask"], np.full((H, W), 255))


def test_any_other_pair_of_different_size_is_an_error(tmp_path):
    make_pairs(tmp_path / "in/images", tmp_path / "in/ground_truth_mask", ["0001", "0002"])
    save(tmp_path / "in/ground_truth_mask/0002.png", Image.new("L", (W, H + 1)))
    with pytest.raises(DataError, match=r"0002\.png: its mask is 12×9, the photo 12×8"):
        build("ecssd", tmp_path / "in", tmp_path)
    with pytest.raises(DataError, match="not prepared"):
        open_tfds("ecssd", "test", tmp_path / "data")


def test_archives_are_read_where_they_lie(tmp_path):
    make_pairs(tmp_path / "tree/images", tmp_path / "tree/ground_truth_mask", ["0001", "0002"])
    (tmp_path / "in").mkdir()
    for folder in ("images", "ground_truth_mask"):
        with zipfile.ZipFile(tmp_path / "in" / f"{folder}.zip", "w") as archive:
            for path in (tmp_path / "tree" / folder).iterdir():
                archive.write(path, f"{folder}/{path.name}")
            archive.writestr(f"__MACOSX/{folder}/._0001.jpg", b"")
            archive.writestr("../../escaped.png", b"")
    assert build("ecssd", tmp_path / "in", tmp_path).counts == {"test": 2}
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == [
        "ground_truth_mask.zip",
        "images.zip",
    ]
    # Unpacked beside its archive, a folder is not taken for a second one.
    make_pairs(tmp_path / "in/images", tmp_path / "in/ground_truth_mask", ["0001", "0002", "0003"])
    assert prepare("ecssd", tmp_path / "in", tmp_path / "again").counts == {"test": 3}


def test_jpeg_photos_and_png_masks_in_one_folder(tmp_path):
    make_pairs(tmp_path / "in/Imgs", tmp_path / "in/Imgs", ["a", "b"])
    assert build("sod", tmp_path / "in", tmp_path).counts == {"test": 2}


def test_links_to_folders_are_followed_and_once(tmp_path):
    make_pairs(tmp_path / "disk/DUTS-TE-Image", tmp_path / "disk/DUTS-TE-Mask", ["a", "b"])
    (tmp_path / "in").mkdir()
    for name in ("DUTS-TE", "DUTS-TE-again"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "disk")
    (tmp_path / "disk/DUTS-TE-Image/back").symlink_to(tmp_path / "disk")
    assert build("duts", tmp_path / "in", tmp_path).counts == {"test": 2}


def test_one_split_alone_is_enough(tmp_path):
    make_pairs(tmp_path / "in/DUTS-TE-Image", tmp_path / "in/DUTS-TE-Mask", ["a"])
    summary = build("duts", tmp_path / "in", tmp_path)
    assert summary.counts == {"test": 1}
    assert "train 0 (officially 10553)" in str(summary)
    with pytest.raises(DataError, match=r"no records for split 'train'; its splits are test \(1\)"):
        open_tfds("duts", "train", tmp_path / "data")


def test_unmatched_files_are_listed_and_counted(tmp_path):
    images, masks = tmp_path / "in/images", tmp_path / "in/masks"
    make_pairs(images, masks, ["a", "b"])
    for number in range(5):
        save(images / f"lone{number}.jpg", photo())
    save(masks / "other.png", Image.new("L", (W, H)))
    with pytest.raises(DataError) as caught:
        build("sod", tmp_path / "in", tmp_path)
    message = str(caught.value)
    assert "no mask for the image" in message and "lone2.jpg and 2 more" in message
    assert "no image for the mask" in message and "other.png" in message
    assert "\n" not in message


def test_missing_files_say_where_to_get_them(tmp_path):
    for files in (tmp_path / "absent", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(DataError, match=r"Download HKU-IS\.rar") as caught:
            build("hku_is", files, tmp_path)
        assert str(files) in str(caught.value) and "\n" not in str(caught.value)


def test_broken_files_are_named(tmp_path):
    make_pairs(tmp_path / "in/images", tmp_path / "in/masks", ["a", "b"])
    broken = tmp_path / "in/images/b.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=r"b\.jpg is not a readable picture") as caught:
        build("sod", tmp_path / "in", tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "zip").mkdir()
    (tmp_path / "zip/images.zip").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"images\.zip is not a readable zip archive"):
        build("ecssd", tmp_path / "zip", tmp_path)


def test_two_datasets_in_one_folder_are_not_mixed_up(tmp_path):
    for dataset in ("ECSSD", "SOD"):
        make_pairs(tmp_path / "in" / dataset / "images", tmp_path / "in" / dataset / "masks", ["a"])
    with pytest.raises(DataError, match="two folders could be 'images'"):
        build("sod", tmp_path / "in", tmp_path)


def test_a_second_preparation_does_nothing(tmp_path):
    make_pairs(tmp_path / "in/images", tmp_path / "in/masks", ["a"])
    first = build("sod", tmp_path / "in", tmp_path)
    again = prepare("sod", data_dir=tmp_path / "data")
    assert (first.built, again.built) == (True, False)
    assert again.counts == first.counts and "already prepared" in str(again)


def test_download_reads_official_archives_and_reports_failure(tmp_path, monkeypatch):
    make_pairs(tmp_path / "tree/images", tmp_path / "tree/ground_truth_mask", ["0001"])
    for folder in ("images", "ground_truth_mask"):
        with zipfile.ZipFile(tmp_path / f"{folder}.zip", "w") as archive:
            for path in (tmp_path / "tree" / folder).iterdir():
                archive.write(path, f"{folder}/{path.name}")
    local = tuple((tmp_path / url.rsplit("/", 1)[-1]).as_uri() for url in builder_class("ecssd").URLS)
    monkeypatch.setattr(builder_class("ecssd"), "URLS", local)
    assert prepare("ecssd", data_dir=tmp_path / "data").counts == {"test": 1}

    def refuse(url, path):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(prepare_module, "_fetch", refuse)
    with pytest.raises(DataError, match=r"could not download http://saliency.*no route.*Download DUTS-TR\.zip"):
        prepare("duts", data_dir=tmp_path / "data")
    monkeypatch.setattr(prepare_module, "_fetch", lambda url, path: Path(path).write_text("<html>moved</html>"))
    with pytest.raises(DataError, match="did not give a zip archive"):
        prepare("duts", data_dir=tmp_path / "data")
    with pytest.raises(DataError, match="ctcug cannot be downloaded automatically"):
        prepare("ctcug", data_dir=tmp_path / "data")


def test_slices_threads_and_pickling(tmp_path):
    make_pairs(tmp_path / "in/images", tmp_path / "in/masks", [f"{i:02d}" for i in range(20)])
    build("sod", tmp_path / "in", tmp_path)
    data_dir = tmp_path / "data"
    parts = [records("sod", split, data_dir) for split in ("test[:90%]", "test[90%:]")]
    assert [len(part) for part in parts] == [18, 2]
    assert parts[0].keys().isdisjoint(parts[1])
    source = pickle.loads(pickle.dumps(open_tfds("sod", "test", data_dir)))
    alone = [source[index]["id"] for index in range(20)]
    with ThreadPoolExecutor(8) as pool:
        fresh = open_tfds("sod", "test", data_dir)
        together = list(pool.map(lambda index: fresh[index]["id"], list(range(20)) * 10))
    assert together == alone * 10
    with pytest.raises(IndexError):
        source[20]


def test_reading_errors_are_one_line(tmp_path):
    with pytest.raises(DataError, match=r"duts is not prepared in .*afiu data prepare duts.*:demo.*DUTS-TR") as caught:
        open_tfds("duts", "train", tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(DataError, match="unknown dataset 'dust': not folder, scenes, bokeh, ctcug, "):
        open_tfds("dust", "train", tmp_path)
    with pytest.raises(DataError, match="unknown dataset 'dust'; known are"):
        prepare("dust")
    make_pairs(tmp_path / "in/images", tmp_path / "in/masks", ["a"])
    build("sod", tmp_path / "in", tmp_path)
    for split in ("val", "test[:", "test[:0]"):
        with pytest.raises(DataError, match=r"its splits are test \(1\)") as caught:
            open_tfds("sod", split, tmp_path / "data")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", [cut, empty, flip, Path.unlink])
@pytest.mark.parametrize("kind", ["array_record", "dataset_info", "metadata", "features"])
def test_damaged_files_of_a_prepared_data_set_are_one_line(kind, fault, tmp_path):
    make_pairs(tmp_path / "in/images", tmp_path / "in/masks", ["a", "b"])
    build("sod", tmp_path / "in", tmp_path)
    [path] = (tmp_path / "data").rglob(f"*{kind}*")
    fault(path)
    with pytest.raises(DataError, match=r"prepare|does not say what white means") as caught:
        open_tfds("sod", "test", tmp_path / "data")[0]
    assert "\n" not in str(caught.value)


def test_what_unpacks_to_more_than_a_picture_has_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "LARGEST", 2**20)
    make_pairs(tmp_path / "in/images", tmp_path / "in/masks", ["a", "b"])
    (tmp_path / "in/images/b.jpg").unlink()
    with zipfile.ZipFile(tmp_path / "in/images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "in/images/a.jpg", "images/a.jpg")
        archive.writestr("images/b.jpg", b"\0" * 2**21)
    assert (tmp_path / "in/images.zip").stat().st_size < 10_000
    shutil.rmtree(tmp_path / "in/images")
    with pytest.raises(DataError, match=r"b\.jpg is not a readable picture .*would unpack to 2 MiB, more than the 1"):
        build("sod", tmp_path / "in", tmp_path)
