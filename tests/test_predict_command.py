"""``afiu predict``: folders, bad photos and requests, what is written where, and how much memory it takes."""

import errno
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_command
from PIL import Image, ImageCms

from afiu_jax.commands.predict import predict
from afiu_jax.errors import UserError
from input_pipeline.records import DataError

SIZE = 64


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side):
    """A PNG of a few bytes that says it has side × side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def test_bad_photos_do_not_stop_a_folder(photo, workplace):
    photos = workplace / "photos"
    photos.mkdir()
    Image.fromarray(photo).save(photos / "good.jpg")
    Image.fromarray(photo[:1, :1]).save(photos / "dot.png")
    Image.fromarray(np.resize(photo, (20, 30000, 3))).save(photos / "strip.png")
    (photos / "text.jpg").write_text("Dear diary")
    whole = (photos / "good.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.png").write_bytes(b"")
    (photos / "bomb.png").write_bytes(bomb(50_000))
    done = run_command(
        "-m", "afiu_jax.cli", "predict", photos, "--weights", "u2netp-sod", "--size", SIZE, cwd=workplace
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "3 photos: map in maps; white = salient" in done.stdout
    assert sorted(p.name for p in (workplace / "maps").iterdir()) == ["dot.png", "good.png", "strip.png"]
    with Image.open(workplace / "maps" / "strip.png") as found:
        assert found.size == (30000, 20)
    errors = done.stderr.strip().splitlines()
    for name in ("text.jpg", "cut.jpg", "empty.png", "bomb.png"):
        assert sum(f"cannot read {photos / name}" in line for line in errors) == 1
    assert len(errors) == 4


def test_photos_that_cannot_be_read_are_named_whatever_happens_later(photo, workplace, monkeypatch, capsys):
    Image.fromarray(photo).save("b.jpg")
    Path("a.jpg").write_text("Dear diary")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        predict(["a.jpg", "b.jpg"], Path("maps"), weights="u2netp-sod", size=str(SIZE))
    assert "cannot read a.jpg" in capsys.readouterr().err
    assert not list(Path("maps").iterdir())


def test_names_that_would_be_too_long_are_told_before_anything_is_done(photo, workplace):
    long = f"{'あ' * 82}.jpg"  # 250 bytes
    Image.fromarray(photo).save(long)
    assert predict([long], Path("maps"), weights="u2netp-sod", size=str(SIZE)) == 0
    with pytest.raises(UserError, match="あ would have a name of more than 255 bytes: rename the photo"):
        predict([long], Path("other"), save="map,overlay")
    assert not Path("other").exists()


def test_only_bad_photos_are_an_error(workplace):
    Path("a.jpg").write_text("Dear diary")
    with pytest.raises(UserError, match="none of 1 photos could be read"):
        predict(["a.jpg"], Path("maps"), weights="u2netp-sod", size=str(SIZE))


def test_every_view_is_written_and_may_be_renewed(photo, workplace):
    Image.fromarray(photo).save("a.jpg")
    Image.fromarray(photo).save("b.jpg")
    arguments = {"weights": "u2netp-sod", "size": str(SIZE), "save": "map,overlay,cutout,side-by-side"}
    for _ in range(2):
        assert predict(["*.jpg"], Path("out"), **arguments) == 0
    names = {f"{stem}{view}.png" for stem in "ab" for view in ("", ".overlay", ".cutout", ".side-by-side")}
    assert {p.name for p in Path("out").iterdir()} == names
    with Image.open("out/a.png") as found:
        assert found.mode == "L"
        assert "white = salient" in found.info["afiu_jax"]
    with Image.open("out/a.cutout.png") as found:
        assert found.mode == "RGBA"


def test_pictures_keep_the_colour_profile_that_is_of_their_pixels(photo, workplace, monkeypatch):
    """Else the colours of a photo in Display P3 are taken for sRGB; a profile of CMYK is of no RGB pixels."""
    monkeypatch.setattr("afiu_jax.commands.predict.Predictor", lambda *_, **__: Grey())
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    modes = {"rgb": "RGB", "clear": "RGBA", "few": "P", "print": "CMYK", "grey": "L"}
    for stem, mode in modes.items():
        suffix = "tif" if mode == "CMYK" else "png"
        Image.fromarray(photo).convert(mode).save(f"{stem}.{suffix}", icc_profile=profile)
    Image.fromarray(photo).save("plain.png")
    predict(["*.png", "*.tif"], Path("out"), save="map,overlay,cutout,side-by-side")
    for stem in (*modes, "plain"):
        for view in ("", ".overlay", ".cutout", ".side-by-side"):
            with Image.open(f"out/{stem}{view}.png") as picture:
                expected = profile if view and stem in ("rgb", "clear", "few") else None
                assert picture.info.get("icc_profile") == expected, (stem, view)


class Grey:
    """Maps that are grey all over."""

    positive, name, about = "blur", "grey", "a test"

    def maps(self, records):
        return ((record, np.full(record["image"].shape[:2], 90, np.uint8)) for record in records)


def test_one_photo_goes_into_one_file(photo, workplace):
    Image.fromarray(photo).save("a.jpg")
    assert predict(["a.jpg"], Path("x/map.png"), weights="u2netp-sod", size=str(SIZE)) == 0
    assert [p.name for p in Path("x").iterdir()] == ["map.png"]
    with pytest.raises(UserError, match=r"map\.png is one file"):
        predict(["a.jpg"], Path("x/map.png"), save="map,overlay")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"save": "map,maps"}, "--save 'maps' is unknown; give one or more of map,overlay,cutout,side-by-side"),
        ({"size": "big"}, "size is 'big': give"),
        ({"size": "0"}, "size is 0: give"),
        ({"size": "5000"}, "size is 5000: give a number of pixels up to 4096, such as 320, or native"),
        ({"size": "9" * 5000}, "size is '9+': give a number of pixels up to 4096"),
        ({"task": "cod"}, "--task 'cod' is unknown; it is one of dbd, sod"),
        ({"task": "dbd", "weights": "u2netp-sod"}, "--task and --weights contradict"),
    ],
)
def test_wrong_requests_are_refused(arguments, message, photo, workplace):
    Image.fromarray(photo).save("a.png")
    with pytest.raises(UserError, match=message):
        predict(["a.png"], Path("maps"), **arguments)


def test_photos_that_are_not_there_are_named(workplace):
    for path, message in (("none.jpg", "no file or folder"), ("*.jpg", "nothing fits"), (".", "no pictures in")):
        with pytest.raises(DataError, match=message):
            predict([path], Path("maps"))


def test_the_code_of_the_readme_makes_its_picture(photo, workplace):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    Image.fromarray(photo).save("photo.jpg")
    done = run_command("-c", code, cwd=workplace)
    assert done.returncode == 0, done.stderr
    with Image.open("panel.jpg") as panel:
        assert panel.size == (3 * photo.shape[1], photo.shape[0])


@pytest.mark.slow
@pytest.mark.parametrize("size", ["320", "native"])
def test_twelve_megapixels_fit_into_two_gigabytes(size, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (3000, 4000, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.jpg")
    views = "map,overlay,cutout,side-by-side"
    command = ["predict", tmp_path / "large.jpg", "-o", tmp_path / "o", "--size", size, "--save", views]
    process = subprocess.Popen([sys.executable, "-m", "afiu_jax.cli", *command], cwd=ROOT)
    _, status, used = os.wait4(process.pid, 0)  # of this process alone: other tests have started larger ones
    assert status == 0
    assert used.ru_maxrss * 1024 < 2e9
