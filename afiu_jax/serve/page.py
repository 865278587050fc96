"""The page: what stands where, and what happens when a photo is dropped."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio.utils import get_upload_folder

from afiu_jax.errors import UserError
from afiu_jax.inference import Predictor
from afiu_jax.serve.results import FILES, MARKED, Result, make, read
from afiu_jax.views import View

CSS = Path(__file__).with_name("page.css")

THEME = gr.themes.Default(
    primary_hue="blue",
    neutral_hue="slate",
    radius_size="lg",
    # Fonts of the computer, so that none is fetched from elsewhere.
    font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"],
    font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
).set(body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300")

TITLE = "Which pixels of a photo are out of focus?"

_NAMES: dict[View, str] = {"map": "map", "overlay": "overlay", "cutout": "cut-out"}
_KEEPS_PROFILES = "png"  # of the pictures on the page; WebP, gradio's own choice, is written without
HOUR = 3600
"""Seconds after which photos and maps are deleted."""


class Limits(NamedTuple):
    """What is accepted: megabytes (2²⁰ bytes) of a file, megapixels of its picture."""

    megabytes: int
    megapixels: int


def build(networks: Mapping[str, Predictor], chosen: str, limits: Limits) -> gr.Blocks:
    """Lays out the page.

    Args:
        networks: what can be chosen, by name.
        chosen: the one that is chosen at first.
        limits: what is accepted.
    """

    def show(photo: Mapping[str, Any] | None, name: str) -> list[Any]:
        if photo is None:
            return _shown("", None)
        path = Path(photo["path"])
        try:
            if not isinstance(name, str) or name not in networks:  # a request that was not made by the page
                raise UserError(f"no network {name!r} here: choose one of {', '.join(networks)}")
            pixels, profile = read(path, photo["orig_name"] or path.name, limits.megapixels)
        except UserError as error:
            return _shown(f'<p class="refused" role="alert">{escape(str(error))}</p>', None)
        result = make(pixels, path.stem, networks[name], Path(get_upload_folder()), profile)
        words = f"<h2>{escape(result.headline)}</h2><p>{escape(result.details)}</p>"
        return _shown(f'<div role="status">{words}</div>', result)

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(HOUR // 6, HOUR)) as page:
        _html(
            f"<h1>{TITLE}</h1><p>Drop a photo, and a network marks them. "
            "Nothing leaves the computer that serves this page.</p>",
            "intro",
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                upload = gr.File(label="Photo", height=180, elem_id="photo")
                choices = [(f"{MARKED[network.positive]} ({name})", name) for name, network in networks.items()]
                network = gr.Radio(choices, value=chosen, label="White in the map", elem_id="network")
                message = _html("", "message")
                with gr.Row():
                    buttons = [_button(view) for view in FILES]
                _html(
                    f"<p>JPEG, PNG, TIFF, WebP or BMP, up to {limits.megabytes} MB and {limits.megapixels} megapixels. "
                    "What you save is PNG at the photo's own size. Photos and maps are deleted here after an hour.</p>",
                    "small",
                )
            with gr.Column(scale=2, min_width=320):
                slider = gr.ImageSlider(
                    label="Photo and map",
                    interactive=False,
                    format=_KEEPS_PROFILES,
                    buttons=["fullscreen"],
                    max_height=440,
                    elem_id="slider",
                )
                with gr.Row():
                    pictures = [_picture(view) for view in ("overlay", "cutout")]
        gr.on(
            [upload.change, network.input],
            show,
            [upload, network],
            [message, slider, *pictures, *buttons],
            preprocess=False,  # gradio's own would answer files that it does not know with a traceback
            concurrency_limit=1,
            trigger_mode="always_last",
            show_progress_on=[slider],
            api_name="predict",
        )
    return page


def _shown(message: str, result: Result | None) -> list[Any]:
    """Values of the message, the slider, the pictures and the buttons, which are emptied if there is no result."""
    previews, files = (result.previews, result.files) if result else ({}, {})
    pair = (previews["photo"], previews["map"]) if result else None
    buttons = [gr.update(value=files.get(view), interactive=bool(result)) for view in FILES]
    return [message, pair, previews.get("overlay"), previews.get("cutout"), *buttons]


def _html(text: str, name: str) -> gr.HTML:
    return gr.HTML(text, elem_id=name, padding=False)


def _picture(view: View) -> gr.Image:
    return gr.Image(
        label=_NAMES[view].capitalize(),
        interactive=False,
        format=_KEEPS_PROFILES,
        buttons=["fullscreen"],
        elem_id=view,
    )


def _button(view: View) -> gr.DownloadButton:
    label = f"Save {_NAMES[view]}"
    return gr.DownloadButton(label, size="sm", min_width=80, interactive=False, elem_id=f"save-{view}")
