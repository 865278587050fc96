"""Files of weights: what is read, what is refused, and that no pickle of them is ever run."""

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from afiu_jax.errors import UserError
from afiu_jax.interop.readers import read_state_dict

ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.num_batches_tracked": np.zeros((), np.int64)}


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as raised:
        read_state_dict(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    return str(raised.value)


def assert_arrays(found) -> None:
    assert found.keys() == ARRAYS.keys()
    for key, value in found.items():
        np.testing.assert_array_equal(value, ARRAYS[key])


class Malicious:
    """A pickle of it makes a file when it is read."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_safetensors_and_npz(tmp_path):
    save_file(ARRAYS, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **ARRAYS)
    for name in ("a.safetensors", "a.npz"):
        assert_arrays(read_state_dict(tmp_path / name))
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        assert "damaged" in refusal(tmp_path / name)


def test_other_files_are_refused(tmp_path):
    assert "no file" in refusal(tmp_path / "none.safetensors")
    (tmp_path / "a.txt").write_text("weights")
    assert ".safetensors, .npz, .pth, .pt" in refusal(tmp_path / "a.txt")
    np.savez(tmp_path / "objects.npz", a=np.array([{}, None]))
    assert "damaged" in refusal(tmp_path / "objects.npz")
    for values in (["text"], [1 + 2j]):
        np.savez(tmp_path / "odd.npz", **ARRAYS, b=np.array(values))
        assert "something else than real numbers in b" in refusal(tmp_path / "odd.npz")


def test_without_pytorch_a_pth_file_is_not_touched(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Malicious(tmp_path / "trace")))
    assert "uv sync --extra torch, or pip install torch" in refusal(tmp_path / "a.pth")
    assert not (tmp_path / "trace").exists()


class Tensor:
    """As much of a tensor as is asked for."""

    def __init__(self, value: np.ndarray):
        self.value, self.shape = value, value.shape

    detach = cpu = float = lambda self: self

    def is_floating_point(self) -> bool:
        return self.value.dtype == np.float32

    def numpy(self) -> np.ndarray:
        return self.value


def test_pytorch_is_asked_for_arrays_alone(tmp_path, monkeypatch):
    def load(path, *, map_location, weights_only):
        assert weights_only is True
        assert map_location == "cpu"
        if "refused" in path.name:
            raise pickle.UnpicklingError("Weights only load failed.\n\tUnsupported GLOBAL posix.system was not allowed")
        if "short" in path.name:
            raise RuntimeError("failed finding central directory. Long advice.\nMore of it.")
        return {"state_dict": {key: Tensor(value) for key, value in ARRAYS.items()}}

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=load))
    for name in ("a.pth", "a.pt", "a.pth.tar", "refused.pth", "short.pth"):
        (tmp_path / name).touch()
    for name in ("a.pth", "a.pt", "a.pth.tar"):
        assert_arrays(read_state_dict(tmp_path / name))
    assert "is refused: it holds posix.system" in refusal(tmp_path / "refused.pth")
    assert refusal(tmp_path / "short.pth").endswith("damaged or not such a file: failed finding central directory")


def test_real_files_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {key: torch.from_numpy(value) for key, value in ARRAYS.items()}
    for zipped in (True, False):  # files from before PyTorch 1.6 are not
        path = tmp_path / f"{zipped}.pth"
        torch.save({"net_state": tensors, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
        assert_arrays(read_state_dict(path))
        path.write_bytes(path.read_bytes()[:-200])
        assert "damaged" in refusal(path)
        torch.save({"a": Malicious(tmp_path / "trace")}, path, _use_new_zipfile_serialization=zipped)
        assert "is refused: it holds " in refusal(path)
    path.write_bytes(pickle.dumps(Malicious(tmp_path / "trace")))
    assert "is refused: it holds " in refusal(path)
    torch.save(torch.nn.Conv2d(1, 1, 1), path)
    assert "torch.nn.modules.conv.Conv2d" in refusal(path)
    torch.save({key: value.to(torch.bfloat16) for key, value in tensors.items()}, path)
    np.testing.assert_array_equal(read_state_dict(path)["a.weight"], ARRAYS["a.weight"])
    assert not (tmp_path / "trace").exists()
