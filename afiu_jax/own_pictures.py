"""Pictures that this program writes: whole or not at all, and never in place of anybody else's.

A text inside each says that it is of this program, so that a later call may replace it.
"""

from pathlib import Path

from PIL import Image, PngImagePlugin

from afiu_jax.errors import UserError
from input_pipeline.pictures import EXTENSIONS

_MARK = "afiu_jax"


def is_ours(path: Path) -> bool:
    """Whether a file is a picture that ``save`` wrote."""
    try:
        with Image.open(path) as picture:
            return _MARK in picture.info
    except (OSError, ValueError, SyntaxError):
        return False


def save(picture: Image.Image, path: Path, about: str) -> None:
    """Writes a PNG file; a reader, or the next run, never meets half of it.

    Args:
        picture: the picture.
        path: the file; whether it may be replaced is for the caller to know.
        about: what made it, kept inside.
    """
    text = PngImagePlugin.PngInfo()
    text.add_text(_MARK, about)
    temporary = path.with_name(path.name + ".part")
    picture.save(temporary, "PNG", pnginfo=text, compress_level=1)  # a sixth of the time of 6, for a seventh more bytes
    temporary.replace(path)


def own_folder(folder: Path, *, emptied: bool = False) -> Path:
    """A folder that holds no picture but this program's; made if need be.

    Args:
        folder: the folder.
        emptied: remove the pictures of earlier calls.

    Raises:
        UserError: somebody else's picture is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS)
    if others := [path for path in pictures if not is_ours(path)]:
        raise UserError(f"{others[0]} is there already, and not of this program: move it, or name another folder")
    for path in pictures if emptied else ():
        path.unlink()
    return folder
