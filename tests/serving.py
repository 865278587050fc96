"""``afiu serve`` in a process of its own, for the tests and for the picture in the docs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

PATIENCE = 180  # seconds, for machines that are busy


class Server(NamedTuple):
    """A running ``afiu serve``.

    Attributes:
        address: of the page, without a slash at the end.
        process: what was started.
        log: the file with all that it prints.
    """

    address: str
    process: subprocess.Popen
    log: Path

    @property
    def port(self) -> int:
        """That of the address."""
        return int(self.address.rpartition(":")[2])


@contextmanager
def served(folder: Path, *arguments: object, **environment: str) -> Iterator[Server]:
    """Starts the command on a free port, and stops it at the end as Ctrl-C does.

    Args:
        folder: its working directory, and where the log is written.
        *arguments: of ``afiu serve``.
        **environment: variables besides those of this process.
    """
    log = folder / "serve.log"
    command = [sys.executable, "-m", "afiu_jax.cli", "serve", "--port", "0", *map(str, arguments)]
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while "http://" not in (text := log.read_text()):
            assert process.poll() is None and time.monotonic() < deadline, text
            time.sleep(0.1)
        yield Server(text[text.index("http://") :].split()[0], process, log)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
