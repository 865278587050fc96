"""Headless Chromium on the page of ``afiu serve``, for the tests and for the picture in the docs."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from serving import PATIENCE

CHROMIUM = shutil.which("chromium")
CHROMEDRIVER = shutil.which("chromedriver")

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# Photo, map, overlay and cut-out: not merely there, but decoded.
_LOADED = """
const pictures = [...document.querySelectorAll("#slider img, #overlay img, #cutout img")];
pictures.forEach((picture) => picture.loading = "eager");
return pictures.length == 4 && pictures.every((picture) => picture.complete && picture.naturalWidth);
"""


@contextmanager
def chromium(folder: Path, size: tuple[int, int] = (1400, 1000)) -> Iterator[webdriver.Chrome]:
    """A window of so many pixels, with ``folder`` for its profile and downloads."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*_FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={size[0]},{size[1]}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})  # every request
    # The driver is named: selenium would download one otherwise.
    driver = webdriver.Chrome(options, Service(CHROMEDRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def wait(driver: webdriver.Chrome, condition: Callable[[webdriver.Chrome], Any]) -> Any:
    """What the condition returns as soon as it is true; elements that are not there yet are waited for."""
    return WebDriverWait(driver, PATIENCE, poll_frequency=0.1).until(condition)


def drop(driver: webdriver.Chrome, photo: Path) -> None:
    """Gives a file to the page."""
    wait(driver, lambda d: d.find_element(By.CSS_SELECTOR, "#photo input[type=file]")).send_keys(str(photo))


def message(driver: webdriver.Chrome) -> str:
    """What the page says about the file, once it says something."""
    return wait(driver, lambda d: d.find_element(By.ID, "message").text)


def results(driver: webdriver.Chrome) -> str:
    """The same of a photo, once all of its pictures are loaded."""
    wait(driver, lambda d: d.execute_script(_LOADED))
    return message(driver)
