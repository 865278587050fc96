"""Files that are changed at random: every reader gives what it can or one line that says why not, never anything else.

The long version reads for ten minutes a reader, ``uv run pytest -m slow -n 0 tests/test_fuzz.py``; what it finds is
printed as ``edits`` to keep in ``FOUND``.
"""

import io
import time
from functools import cache
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save

from afiu_jax.errors import UserError
from afiu_jax.interop import onnx_graph
from afiu_jax.interop.readers import read_state_dict
from afiu_jax.networks import abstract_model
from input_pipeline.photos import Photos
from input_pipeline.records import DataError
from input_pipeline.sources import Spec, open_source

SHORT, LONG = 40, 200
"""Files that one call reads."""
MINUTES = 10
ONNX = ROOT.parent / "shared" / "weights" / "u2netp.onnx"

rng = np.random.default_rng(0)
PHOTO = np.repeat(np.repeat(rng.integers(0, 256, (6, 8, 3), np.uint8), 4, 0), 4, 1)
MASK = np.where(np.arange(32) < 12, np.uint8(255), np.zeros((24, 32), np.uint8))
ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.num_batches_tracked": np.zeros((), np.int64)}


def encoded(picture: np.ndarray, kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


@cache
def samples(reader: str) -> tuple[tuple[str, bytes], ...]:
    """Whole files that a reader knows: name and content."""
    if reader == "photo":
        exif = Image.Exif()
        exif[0x0112] = 6
        return (
            ("a.jpg", encoded(PHOTO, "jpeg", exif=exif)),
            ("a.png", encoded(PHOTO, "png")),
            ("a.tif", encoded(PHOTO, "tiff", compression="tiff_lzw")),
            ("a.webp", encoded(PHOTO, "webp")),
            ("a.bmp", encoded(PHOTO, "bmp")),
            ("16.png", encoded(PHOTO[..., 0].astype(np.uint16) * 257, "png")),
        )
    if reader == "mask":
        return (("a.png", encoded(MASK, "png")), ("a.png", encoded(MASK > 0, "png")))
    if reader == "safetensors":
        return (("a.safetensors", save(ARRAYS)),)
    if reader == "onnx":
        return (("a.onnx", ONNX.read_bytes()),)
    zipped = io.BytesIO()
    np.savez(zipped, **ARRAYS)
    found = [("a.npz", zipped.getvalue())]
    if reader == "torch":
        torch = pytest.importorskip("torch")
        found = []
        for new in (True, False):
            file = io.BytesIO()
            tensors = {key: torch.from_numpy(value) for key, value in ARRAYS.items()}
            torch.save(tensors, file, _use_new_zipfile_serialization=new)
            found.append(("a.pth", file.getvalue()))
    return tuple(found)


def read_photo(path: Path) -> None:
    record = Photos([path])[0]
    assert record["image"].dtype == np.uint8
    assert record["image"].shape[2] == 3


def read_mask(path: Path) -> None:
    """As the mask of a good photo."""
    for name, content in (("images", samples("photo")[1][1]), ("masks", path.read_bytes())):
        (path.parent / name).mkdir(exist_ok=True)
        (path.parent / name / "a.png").write_bytes(content)
    record = open_source(Spec("folder", str(path.parent), white="blur"), "blur", seed=0)[0]
    assert record["mask"].shape == record["image"].shape[:2] == PHOTO.shape[:2]
    assert record["mask"].dtype == np.uint8


@cache
def u2netp():
    model = abstract_model("u2netp")
    return model, onnx_graph.convolutions(model, 320)


def read_onnx(path: Path) -> None:
    pytest.importorskip("onnx")
    model, convolutions = u2netp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_graph, "convolutions", lambda *_: convolutions)  # the same each time, after a second's trace
        onnx_graph.read_onnx(path, model, "u2netp")


READERS = {
    "photo": read_photo,
    "mask": read_mask,
    "safetensors": read_state_dict,
    "npz": read_state_dict,
    "torch": read_state_dict,
    "onnx": read_onnx,
}

Edit = tuple[str, int, bytes]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "remove", "cut", "repeat"]),
        st.integers(0, 2**16),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=5,
)


def changed(content: bytes, edits: list[Edit]) -> bytes:
    """A file after some edits; small positions, which a search tries first, lie in its header."""
    for kind, position, value in edits:
        at = position % max(len(content), 1)
        before, after = content[:at], content[at:]
        match kind:
            case "set":
                content = before + value + after[len(value) :]
            case "insert":
                content = before + value + after
            case "remove":
                content = before + after[len(value) :]
            case "cut":
                content = before
            case "repeat":
                content = before + after[:64] * len(value) + after
    return content


def search(reader: str, folder: Path, count: int, seed: int) -> None:
    """Reads ``count`` changed files."""
    whole = samples(reader)

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(st.sampled_from(whole), EDITS)
    def reads(sample, edits):
        check(reader, folder, sample, edits)

    reads()


def check(reader: str, folder: Path, sample: tuple[str, bytes], edits: list[Edit]) -> None:
    name, content = sample
    path = folder / name
    path.write_bytes(changed(content, edits))
    try:
        READERS[reader](path)
    except (UserError, DataError) as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 600
        assert str(error).isprintable()


FOUND = {
    "a compression that nobody has": ("npz", 0, [("set", 25779, b"\x01")]),
    "an encrypted member": ("npz", 0, [("set", 25777, b"\x01")]),
    "an error of a page": ("torch", 1, [("remove", 279, b"\x00" * 3)]),
    "a name of a page": (
        "torch",
        1,
        [
            ("repeat", 95, b"\x00" * 3),
            ("cut", 8050, b"\x00"),
            ("repeat", 464, b"\x00" * 3),
            ("repeat", 138, b"\x00" * 5),
        ],
    ),
    "a constant without a type": ("onnx", 0, [("set", 31160, b"\x00")]),
    "a node without what it takes": ("onnx", 0, [("set", 8148, b"\x99")]),
    "a name that no terminal shows": ("onnx", 0, [("set", 30676, b"\x00")]),
}
"""What the long version found: reader, which of its samples, edits."""


@pytest.mark.parametrize("reader, sample, edits", FOUND.values(), ids=FOUND)
def test_what_was_found_once_is_refused_in_one_line(reader, sample, edits, tmp_path):
    if reader == "onnx" and not ONNX.exists():
        pytest.skip("needs the published u2netp.onnx")
    check(reader, tmp_path, samples(reader)[sample], edits)
    with pytest.raises(UserError, match=r"damaged or not|is refused|does not fit"):
        READERS[reader](tmp_path / samples(reader)[sample][0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader", READERS)
def test_no_file_is_more_than_a_reader_can_take(reader, tmp_path):
    if reader == "onnx" and not ONNX.exists():
        pytest.skip("needs the published u2netp.onnx")
    search(reader, tmp_path, SHORT, seed=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader", READERS)
def test_ten_minutes_of_files_are_no_more_than_a_reader_can_take(reader, tmp_path):
    if reader == "onnx" and not ONNX.exists():
        pytest.skip("needs the published u2netp.onnx")
    end, seed = time.monotonic() + 60 * MINUTES, 1
    while time.monotonic() < end:
        search(reader, tmp_path, LONG, seed)
        seed += 1
    print(f"{reader}: {(seed - 1) * LONG} files")
