"""The local page: in a process of its own, asked over HTTP and looked at in Chromium."""

import json
import os
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageCms
from serving import PATIENCE, served
from test_commands import refusal
from test_predict import FORMATS
from test_predict_command import bomb

from afiu_jax.errors import UserError
from afiu_jax.export import export
from afiu_jax.inference import load
from afiu_jax.maps import to_8_bit
from afiu_jax.serve import server as command
from afiu_jax.serve.results import FILES, make, read
from afiu_jax.views import render
from afiu_jax.weights import shipped
from input_pipeline.pictures import read_photo
from input_pipeline.scenes import Scenes

try:
    import browser
except ModuleNotFoundError:  # selenium
    browser = None
gradio_client = pytest.importorskip("gradio_client")
httpx = pytest.importorskip("httpx")

LIMITS = {"max_megabytes": 1, "max_megapixels": 2}
# What a shell may have from elsewhere, none of which must open the page or keep it from starting.
ELSEWHERE = {
    "GRADIO_ALLOWED_PATHS": "/",
    "GRADIO_SERVER_NAME": "0.0.0.0",
    "GRADIO_SHARE": "True",
    "GRADIO_ANALYTICS_ENABLED": "True",
    "HTTP_PROXY": "http://127.0.0.1:9",
}
LARGE = os.urandom(LIMITS["max_megabytes"] * 2**20 + 1)


@pytest.fixture(scope="module")
def photo():
    """90 × 130 pixels with something in it."""
    return np.asarray(Image.fromarray(Scenes("salient", split="test")[0]["image"]).resize((130, 90)))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network that does not come with the package."""
    return export("u2netp-sod", tmp_path_factory.mktemp("weights") / "mine.safetensors").path


@pytest.fixture(scope="module")
def predictor():
    return load("u2netp-sod")


@pytest.fixture(scope="module")
def server(tmp_path_factory, weights):
    limits = [f"--{name.replace('_', '-')}={limit}" for name, limit in LIMITS.items()]
    with served(tmp_path_factory.mktemp("serve"), "--weights", weights, *limits, **ELSEWHERE) as running:
        yield running


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    """A program that uses the page."""
    folder = tmp_path_factory.mktemp("client")
    return gradio_client.Client(server.address, verbose=False, analytics_enabled=False, download_files=folder)


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def driver(server, downloads):
    if not (browser and browser.CHROMIUM and browser.CHROMEDRIVER):
        pytest.skip("needs selenium, chromium and chromedriver")
    with browser.chromium(downloads) as opened:
        yield opened


@pytest.fixture
def page(server, driver):
    """The page as it is at first."""
    driver.get(server.address)
    return driver


def damaged(photo, folder):
    Image.fromarray(photo).save(folder / "whole.jpg")
    return (folder / "whole.jpg").read_bytes()[:1500]


BAD = {
    "text.jpg": (lambda photo, folder: b"not a picture", "text.jpg is no picture that can be read here"),
    "empty.png": (lambda photo, folder: b"", "empty.png is no picture that can be read here"),
    "half.jpg": (damaged, "half.jpg is damaged (image file is truncated"),
    "large.png": (lambda photo, folder: bomb(1500), "large.png has more than 2 megapixels"),
    "bomb.png": (lambda photo, folder: bomb(30000), "bomb.png has more than 2 megapixels"),
    "page.eps": (lambda photo, folder: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "page.eps is no picture"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line_that_names_them(name, photo, tmp_path, recwarn):
    content, text = BAD[name]
    path = tmp_path / "upload"
    path.write_bytes(content(photo, tmp_path))
    with pytest.raises(UserError) as refused:
        read(path, name, LIMITS["max_megapixels"])
    assert str(refused.value).startswith(text)
    assert "\n" not in str(refused.value)
    assert str(tmp_path) not in str(refused.value)
    assert not recwarn.list


def test_a_photo_that_was_deleted_may_be_dropped_again(tmp_path):
    with pytest.raises(UserError, match=r"a\.png was deleted here in the meantime: drop it again"):
        read(tmp_path / "gone.png", "a.png", LIMITS["max_megapixels"])


HEADLINES = {
    "salient": "The salient object covers {:.0f} % of the photo",
    "blur": "{:.0f} % of the photo is out of focus",
}


@pytest.mark.parametrize("name", shipped())
def test_words_and_files_of_a_photo(name, photo, tmp_path):
    predictor = load(name)
    result = make(photo, "dog.tif", predictor, tmp_path)
    found = to_8_bit(predictor.predict(photo))
    assert result.headline == HEADLINES[predictor.positive].format(found.mean() / 2.55)
    assert result.details.startswith(f"130 × 90 pixels · {name} · ")
    names = [path.name for path in result.files.values()]
    assert names == ["dog.tif.png", "dog.tif.overlay.png", "dog.tif.cutout.png"]
    for view, path in result.files.items():
        with Image.open(path) as written:
            np.testing.assert_array_equal(written, render(view, photo, found, predictor.positive))
    again = make(photo, "dog.tif", predictor, tmp_path)
    assert set(again.files.values()).isdisjoint(result.files.values())


def test_a_photo_and_its_views_keep_its_colour_profile(photo, predictor, tmp_path, monkeypatch):
    from afiu_jax.serve.page import _picture

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "page"))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(photo).save(tmp_path / "a.jpg", icc_profile=profile)
    pixels, found = read(tmp_path / "a.jpg", "a.jpg", LIMITS["max_megapixels"])
    result = make(pixels, "a", predictor, tmp_path, found)
    for view, path in result.files.items():
        with Image.open(path) as picture:
            assert picture.info.get("icc_profile") == (None if view == "map" else profile)
    with Image.open(_picture("overlay").postprocess(result.previews["overlay"]).path) as picture:  # as the page has it
        assert picture.info.get("icc_profile") == profile


def test_a_panorama_is_shown_small_and_saved_whole(predictor, tmp_path):
    result = make(np.full((7, 9000, 3), 80, np.uint8), "a", predictor, tmp_path)
    assert {picture.size for picture in result.previews.values()} == {(1600, 1)}
    for path in result.files.values():
        with Image.open(path) as written:
            assert written.size == (9000, 7)


def test_without_gradio_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs gradio: uv sync --extra web, or pip install gradio"):
        command.serve("127.0.0.1", 0, None, **LIMITS)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_computer_is_refused(host):
    with pytest.raises(UserError, match=rf"^cannot listen on {host}:0 \(.+\): name another --port"):
        command.serve(host, 0, None, **LIMITS)


def test_weights_that_are_not_there_are_refused(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^no weights 'nothing': name one of u2netp-"):
        command.serve("127.0.0.1", 0, "nothing", **LIMITS)


def test_a_port_that_is_taken_is_said(server):
    line = refusal("-m", "afiu_jax.cli", "serve", "--port", server.port)
    assert line.startswith(f"error: cannot listen on 127.0.0.1:{server.port} (Address already in use): name another")


def test_only_this_computer_is_answered(server):
    socket.create_connection(("127.0.0.1", server.port)).close()
    with pytest.raises(ConnectionRefusedError):  # an address of this computer too, but not the one listened on
        socket.create_connection(("127.0.0.2", server.port))


def upload(server, name, content):
    return httpx.post(f"{server.address}/gradio_api/upload", files={"files": (name, content)})


def ask(server, path, network):
    """The page's own request for a map, for any path: the kind of answer, and its values."""
    address = f"{server.address}/gradio_api/call/predict"
    photo = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
    event = httpx.post(address, json={"data": [photo, network]}).json()["event_id"]
    lines = httpx.get(f"{address}/{event}", timeout=PATIENCE).text.splitlines()
    kind = next(line for line in lines if line.startswith("event: ") and "heartbeat" not in line)
    return kind.removeprefix("event: "), json.loads(lines[lines.index(kind) + 1].removeprefix("data: "))


def test_no_file_is_served_that_the_page_did_not_make(server, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "private.png")
    for path in ("/etc/passwd", ROOT / "pyproject.toml", tmp_path / "private.png"):
        assert httpx.get(f"{server.address}/gradio_api/file={path}").status_code == 403
        assert ask(server, path, "u2netp-sod")[0] == "error"
    (sent,) = upload(server, "a.png", (tmp_path / "private.png").read_bytes()).json()
    assert httpx.get(f"{server.address}/gradio_api/file={sent}").status_code == 200


def test_only_the_networks_of_the_page_are_read(server, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "a.png")
    (sent,) = upload(server, "a.png", (tmp_path / "a.png").read_bytes()).json()
    kind, (message, *shown) = ask(server, sent, str(tmp_path))
    assert kind == "complete"
    assert "choose one of " in message
    assert shown[:3] == [None] * 3


def test_larger_files_are_refused_before_they_are_kept(server):
    answer = upload(server, "large.jpg", LARGE)
    assert answer.status_code == 413
    assert "maximum allowed size" in answer.text


@pytest.mark.parametrize("name", ["sixteen.png", "cmyk.jpg", "palette.png"])
def test_every_kind_of_photo_reaches_the_decoder_as_it_is(name, photo, client, predictor, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    FORMATS[name](photo).save(tmp_path / name, exif=exif)
    answer = client.predict(gradio_client.handle_file(tmp_path / name), "u2netp-sod", api_name="/predict")
    with Image.open(answer[-3]["value"]) as saved:
        assert saved.size == (90, 130)
        np.testing.assert_array_equal(saved, to_8_bit(predictor.predict(tmp_path / name)))


def disabled(page):
    return [page.find_element("id", f"save-{view}").get_attribute("disabled") for view in FILES]


def clear(page):
    """Takes the file back, as its cross does."""
    page.execute_script("document.querySelector('#photo button[aria-label=Clear]').click()")


def test_a_dropped_photo_is_mapped_shown_and_saved(page, server, downloads, photo, predictor, tmp_path):
    path = tmp_path / "my dog (1).jpg"
    Image.fromarray(photo).save(path)
    browser.drop(page, path)
    found = to_8_bit(predictor.predict(path))
    headline, details = browser.results(page).splitlines()
    assert headline == HEADLINES["salient"].format(found.mean() / 2.55)
    assert details.startswith("130 × 90 pixels · mine · ")
    for view, name in FILES.items():
        page.find_element("id", f"save-{view}").click()
        saved = downloads / name.format("my dog (1)")
        browser.wait(page, lambda d, saved=saved: saved.exists())
        with Image.open(saved) as picture:
            np.testing.assert_array_equal(picture, render(view, read_photo(path), found, "salient"))
    sent = (json.loads(entry["message"])["message"] for entry in page.get_log("performance"))
    addresses = [entry["params"]["request"]["url"] for entry in sent if entry["method"] == "Network.requestWillBeSent"]
    asked = {address for address in addresses if address.startswith(("http", "ws", "//"))}
    assert f"{server.address}/gradio_api/upload" in {address.partition("?")[0] for address in asked}
    assert {address for address in asked if not address.startswith(f"{server.address}/")} == set()


def test_the_network_can_be_changed(page, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "a.png")
    browser.drop(page, tmp_path / "a.png")
    assert " mine " in browser.results(page)
    find = "//*[@id='network']//label[contains(., '(u2netp-sod)')]"
    assert page.find_element("xpath", find).text == "the salient object (u2netp-sod)"
    page.find_element("xpath", find).click()
    browser.wait(page, lambda d: " u2netp-sod " in browser.message(d))


def test_bad_files_get_a_message_and_the_next_one_its_map(page, server, photo, tmp_path):
    before = len(server.log.read_text())
    for name, (content, text) in BAD.items():
        (tmp_path / name).write_bytes(content(photo, tmp_path))
        browser.drop(page, tmp_path / name)
        browser.wait(page, lambda d, text=text: browser.message(d).startswith(text))
        assert page.find_element("css selector", "#message [role=alert]").is_displayed()
        assert disabled(page) == ["true"] * 3
        clear(page)
    Image.fromarray(photo).save(tmp_path / "good.png")
    browser.drop(page, tmp_path / "good.png")
    assert "130 × 90 pixels" in browser.results(page)
    assert disabled(page) == [None] * 3
    assert page.find_elements("css selector", ".toast-wrap > *") == []
    assert server.log.read_text()[before:] == ""


def test_a_large_file_gets_a_message(page, server, tmp_path):
    before = len(server.log.read_text())
    (tmp_path / "large.jpg").write_bytes(LARGE)
    browser.drop(page, tmp_path / "large.jpg")
    toast = browser.wait(page, lambda d: d.find_element("css selector", ".toast-wrap").text)
    assert "exceed the maximum allowed size of 1.0 Mb" in toast
    assert "large.jpg" in toast
    assert disabled(page) == ["true"] * 3
    assert server.log.read_text()[before:] == ""


def test_ctrl_c_ends_it_and_leaves_nothing(server, photo, tmp_path):
    """The last one: it stops the server of all others, with the page still open in the browser."""
    Image.fromarray(photo).save(tmp_path / "a.png")
    (sent,) = upload(server, "a.png", (tmp_path / "a.png").read_bytes()).json()
    folder = Path(sent).parents[1]
    assert folder.is_dir()
    before = len(server.log.read_text())
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(PATIENCE) == 0
    assert server.log.read_text()[before:] == ""
    assert not folder.exists()
    assert [path.name for path in server.log.parent.iterdir()] == ["serve.log"]
