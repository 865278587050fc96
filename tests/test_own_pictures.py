"""Where pictures of one's own photos go, and how they are known again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from afiu_jax.commands.predict import predict
from afiu_jax.errors import UserError
from afiu_jax.own_pictures import is_ours, save
from input_pipeline.paths import at_home

SIZE = 64


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with a photo, which is the current one."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)).save("a.png")
    return tmp_path


def test_nothing_of_others_is_replaced(workplace):
    shutil.copy("a.png", "a.overlay.jpg")
    Path("maps").mkdir()
    Path("maps/a.png").write_bytes(b"mine")
    with pytest.raises(UserError, match="there already, and not known to be of this program"):
        predict(["a.png"], Path("maps"))
    assert Path("maps/a.png").read_bytes() == b"mine"
    with pytest.raises(UserError, match="would replace a photo"):
        predict(["a.png"], Path())
    with pytest.raises(UserError, match="both give"):
        predict(["a.png", "a.overlay.jpg"], Path("other"), save="map,overlay")
    assert not Path("other").exists()


def test_places_that_are_no_folder_are_refused(workplace):
    Path("notes").write_text("mine")
    for out in ("b.jpg", "notes"):
        with pytest.raises(UserError, match=f"{out} is no folder, and pictures are written as PNG"):
            predict(["a.png"], Path(out))
    with pytest.raises(UserError, match="a photo is named ''"):
        predict([""], Path("maps"))


def test_names_may_begin_like_a_home_folder(workplace):
    Path("a.png").rename("~nobody-here.png")
    assert at_home("~nobody-here.png") == Path("~nobody-here.png")
    assert predict(["~nobody-here.png"], Path("maps"), weights="u2netp-sod", size=str(SIZE)) == 0
    assert at_home("~/x") == Path.home() / "x"


def test_pictures_of_any_size_are_known_again(workplace, monkeypatch):
    save(Image.new("L", (40, 30)), Path("ours.png"), "a test")
    Image.new("L", (40, 30)).save("theirs.png")
    Path("text.png").write_text("nothing")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # of which Pillow opens no more than 200
    assert [is_ours(Path(f"{name}.png")) for name in ("ours", "theirs", "text", "none")] == [True, False, False, False]
