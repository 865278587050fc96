"""``afiu serve``: the page on a port, until Ctrl-C or until its terminal is closed."""

import os
import socket
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from afiu_jax.console import open_console
from afiu_jax.errors import UserError
from afiu_jax.training.signals import StopRequest
from afiu_jax.weights import DEFAULTS, shipped


def serve(host: str, port: int, weights: str | None, *, max_megabytes: int, max_megapixels: int) -> None:
    """Serves the page until Ctrl-C, SIGTERM or SIGHUP, and leaves nothing of what was sent to it behind.

    Args:
        host: address to listen on; 127.0.0.1 is reached from this computer only.
        port: 0 for any that is free.
        weights: the network that is chosen at first, see ``load_weights``; the one of defocus blur if None.
        max_megabytes: of a file, in units of 2²⁰ bytes.
        max_megapixels: of a picture.

    Raises:
        UserError: gradio is missing, the address cannot be listened on, or the weights cannot be read.
    """
    if find_spec("gradio") is None:
        raise UserError("afiu serve needs gradio: uv sync --extra web, or pip install gradio")
    port = _free_port(host, port)
    chosen = weights or DEFAULTS["dbd"]
    console = open_console()
    with tempfile.TemporaryDirectory(prefix="afiu-serve-") as folder:
        with console.status("starting"):
            from afiu_jax.inference import load

            networks = {name: load(name) for name in dict.fromkeys([chosen, *shipped()])}
            _set_environment(folder)
            from afiu_jax.serve.page import CSS, HOUR, THEME, Limits, build

            page = build(networks, chosen, Limits(max_megabytes, max_megapixels))
        with StopRequest() as stop:
            page.launch(
                server_name=host,
                server_port=port,
                prevent_thread_lock=True,
                quiet=True,
                max_file_size=max_megabytes * 2**20,
                footer_links=[],
                theme=THEME,
                css_paths=CSS,
                share=False,
                run_history=False,
                enable_monitoring=False,
            )
            console.print(f"http://{host}:{port} maps photos with {chosen}; Ctrl-C stops it")
            swept = time.monotonic()
            while stop.signal is None:
                time.sleep(0.1)
                if time.monotonic() > swept + 60:
                    remove_old(Path(folder), HOUR)
                    swept = time.monotonic()
        page.close(verbose=False)


def remove_old(folder: Path, age: int) -> None:
    """Removes files below a folder that nothing has written to for so many seconds.

    Gradio removes what it was sent and what it shows, but for photos whose sending broke off.
    """
    before = time.time() - age
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # gradio was first
            if path.is_file() and path.stat().st_mtime < before:
                path.unlink()


def _set_environment(folder: str) -> None:
    """What gradio reads before it starts.

    Args:
        folder: where it keeps what is sent and what is shown; it serves nothing else.
    """
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]  # meant for other pages: they may open this one, or folders, to others
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"  # it asks itself whether it has started


def _free_port(host: str, port: int) -> int:
    """The port, or any one for 0, after a look whether it can be had."""
    try:
        with socket.create_server((host, port)) as listener:
            return listener.getsockname()[1]
    except OSError as error:
        cause = str(error.strerror).partition(" (while")[0]
        raise UserError(
            f"cannot listen on {host}:{port} ({cause}): name another --port, 0 for any that is free, or another --host"
        ) from None
