"""Takes a picture of `afiu serve` in Chromium: PYTHONPATH=tests python docs/serve_screenshot.py PHOTO WEIGHTS OUT.

PHOTO is dropped on the page, WEIGHTS is the network as of `afiu serve --weights`, OUT the .png file.
"""

import sys
import tempfile
from pathlib import Path

from browser import chromium, drop, results
from serving import served


def main(photo: Path, weights: str, out: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with served(folder, "--weights", weights) as server, chromium(folder, size=(1360, 1060)) as driver:
            driver.get(server.address)
            drop(driver, photo.resolve())
            print(results(driver))
            driver.save_screenshot(str(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
