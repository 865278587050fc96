"""Folders of pairs that cannot be used: missing, unequal, damaged, cut off; each named in one line."""

import numpy as np
import pytest
from PIL import Image
from test_folder import FORMATS, close, encoded, noise, ramp, write, write_pair

from input_pipeline.folder import Folder, read
from input_pipeline.records import DataError


def complaint(*arguments, **keywords):
    """What `Folder` says against its arguments: one line."""
    with pytest.raises(DataError) as caught:
        Folder(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("missing", ["images", "masks"])
def test_a_missing_folder_is_named(tmp_path, missing):
    write_pair(tmp_path, "a")
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    said = complaint(tmp_path)
    assert str(tmp_path / missing) in said
    assert "no folder" in said
    assert f"{missing}_dir" in said


@pytest.mark.parametrize("empty", ["images", "masks"])
@pytest.mark.parametrize("stray", [None, "Thumbs.db", "a.gif"])
def test_a_folder_without_pictures_is_named_with_the_known_extensions(tmp_path, empty, stray):
    write_pair(tmp_path, "a")
    (tmp_path / empty / "a.png").unlink()
    if stray:
        (tmp_path / empty / stray).write_bytes(b"")
    said = complaint(tmp_path)
    assert "no pictures" in said
    assert str(tmp_path / empty) in said
    assert all(f".{extension}" in said for extension in FORMATS)


@pytest.mark.parametrize(
    ("folder", "words"), [("masks", "images without a mask"), ("images", "masks without an image")]
)
def test_what_lacks_its_other_half_is_counted_and_the_first_are_named(tmp_path, folder, words):
    for number in range(13):
        write_pair(tmp_path, f"s{number:02}")
    (tmp_path / folder / "s07.png").unlink()
    said = complaint(tmp_path)
    assert f"1 {words}" in said
    assert str(tmp_path) in said
    assert "s07" in said
    assert "more" not in said
    assert "add" in said
    for number in range(12):
        (tmp_path / folder / f"s{number:02}.png").unlink(missing_ok=True)
    said = complaint(tmp_path)
    assert f"12 {words}" in said
    assert [f"s{n:02}" in said for n in range(13)] == [True] * 5 + [False] * 8
    assert "and 7 more" in said


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_two_files_of_one_stem_are_named(tmp_path, folder):
    write_pair(tmp_path, "a")
    write_pair(tmp_path, "twin")
    write(tmp_path / folder, "twin.JPG", ramp())
    said = complaint(tmp_path)
    assert str(tmp_path / folder) in said
    assert "twin" in said
    assert "keep one" in said


@pytest.mark.parametrize("folder", ["images", "masks"])
@pytest.mark.parametrize("content", [b"", b"hello, this is text", b"\x89PNG\r\n\x1a\nnothing follows"])
@pytest.mark.parametrize("extension", ["png", "webp"])
def test_a_file_that_is_no_picture_is_named(tmp_path, folder, content, extension):
    for stem in "abc":
        write_pair(tmp_path, stem)
    (tmp_path / folder / "b.png").unlink()
    broken = tmp_path / folder / f"b.{extension}"
    broken.write_bytes(content)
    said = complaint(tmp_path)
    assert str(broken) in said
    assert "replace the file" in said


@pytest.mark.parametrize("extension", sorted(FORMATS))
@pytest.mark.parametrize("left", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_found_on_opening(tmp_path, extension, left):
    write_pair(tmp_path, "a", noise(40, 50))
    write_pair(tmp_path, "b", noise(40, 50))
    (tmp_path / "images/b.png").unlink()
    whole = encoded(noise(40, 50), extension)
    broken = tmp_path / f"images/b.{extension}"
    broken.write_bytes(whole)
    assert len(Folder(tmp_path)) == 2
    broken.write_bytes(whole[: int(left * len(whole))])
    said = complaint(tmp_path)
    assert str(broken) in said
    assert "replace the file" in said


def test_a_truncated_mask_is_found_too(tmp_path):
    write_pair(tmp_path, "a", noise(40, 50))
    broken = write(tmp_path / "masks", "a.png", noise(40, 50)[..., 0])
    broken.write_bytes(broken.read_bytes()[:-200])
    assert str(broken) in complaint(tmp_path)


@pytest.mark.parametrize("extension", ["jpg", "png"])
@pytest.mark.parametrize("junk", [b"\0" * 10, b"\0" * 1000, b"appended by a camera" * 50])
def test_bytes_after_the_end_do_no_harm(tmp_path, extension, junk):
    write_pair(tmp_path, "a")
    (tmp_path / "images/a.png").unlink()
    path = write(tmp_path / "images", f"a.{extension}", ramp())
    clean = read(path, "RGB")
    path.write_bytes(path.read_bytes() + junk)
    source = Folder(tmp_path)
    assert np.array_equal(source[0]["image"], clean)
    assert close(clean, ramp(), 25)


def test_a_file_may_hold_another_format_than_its_name_says(tmp_path):
    write_pair(tmp_path, "a")
    (tmp_path / "images/a.png").rename(tmp_path / "images/a.jpg")
    assert np.array_equal(Folder(tmp_path)[0]["image"], ramp())


def test_a_pair_of_different_sizes_is_named_with_both(tmp_path):
    write_pair(tmp_path, "a")
    image = write(tmp_path / "images", "b.png", ramp(12, 15))
    for (height, width), remedy in (((15, 13), "make them the same size"), ((15, 12), "turn one of them")):
        mask = write(tmp_path / "masks", "b.png", ramp(height, width)[..., 0])
        said = complaint(tmp_path)
        assert f"{image} is 15x12 but {mask} is {width}x{height}: {remedy}" in said


def test_a_picture_beyond_pillow_s_limit_is_named(tmp_path, monkeypatch):
    write_pair(tmp_path, "a")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12 * 15 // 3)
    assert str(tmp_path / "images/a.png") in complaint(tmp_path)


def test_a_file_that_goes_bad_later_is_named_on_reading(tmp_path):
    write_pair(tmp_path, "a")
    source = Folder(tmp_path)
    (tmp_path / "masks/a.png").write_bytes(b"overwritten")
    with pytest.raises(DataError, match="cannot read") as caught:
        source[0]
    assert str(tmp_path / "masks/a.png") in str(caught.value)
