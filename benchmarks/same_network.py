"""One network with the same weights and the same batch in several programs, checked to compute the same."""

import json
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from flax import nnx
from rounds import Worker

from afiu_jax import create_model
from afiu_jax.export import Exportable
from afiu_jax.interop import onnx_export
from afiu_jax.interop.layout import to_published
from afiu_jax.networks import NETWORKS
from afiu_jax.training.saved import SavedModel
from afiu_jax.training.schema import base_config

HERE = Path(__file__).parent
TOLERANCE = 1e-3
"""Relative to the largest value, for maps and loss, and to the norm, for the gradient of the last convolution. Those of
the first ones are no measure: with initial weights and two images, float32 leaves a third of their norm to rounding."""
MODES = {
    "PyTorch, eager": (),
    "PyTorch, eager, channels last": ("--channels-last",),
    "PyTorch, compiled": ("--compile",),
    "PyTorch, compiled, channels last": ("--compile", "--channels-last"),
}


@dataclass(frozen=True)
class Case:
    """What is compared.

    Attributes:
        network: key in ``NETWORKS``.
        size: side of the images, in pixels.
        batch_size: images.
        small: the network's small preset.
    """

    network: str
    size: int
    batch_size: int
    small: bool = False
    options: dict = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "options", dict(NETWORKS[self.network].presets["small"]) if self.small else {})

    def __str__(self) -> str:
        return f"{self.network}{'-small' if self.small else ''}, {self.size} px, batch {self.batch_size}"


class Contest:
    """The processes of one case; a context manager that ends them.

    Args:
        case: what is compared.
        task: ``step`` or ``infer``.
        python: of the environment that has PyTorch.
    """

    def __init__(self, case: Case, task: str, python: Path | None):
        self.case, self.task, self.python = case, task, python
        self.workers: dict[str, Worker] = {}
        self.refused: dict[str, str] = {}
        self.difference: dict[str, dict[str, float]] = {}

    def __enter__(self) -> "Contest":
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            self._given = self._folder / "given.npz"
            model = create_model(self.case.network, rngs=nnx.Rngs(0), **self.case.options)
            random = np.random.default_rng(0)
            shape = (self.case.batch_size, self.case.size, self.case.size)
            arrays = {f"w:{name}": value for name, value in to_published(model, self.case.network).items()}
            arrays["images"] = random.standard_normal((*shape, 3), np.float32)
            arrays["masks"] = (random.random((*shape, 1)) < 0.3).astype(np.float32)
            np.savez(self._given, **arrays)
            self._model = model
            self._stack = stack.pop_all()
        self._add("ours", sys.executable, HERE / "our_worker.py", self.task)
        return self

    def __exit__(self, *_) -> None:
        self._stack.close()

    def add_torch(self, modes: Iterable[str] = tuple(MODES)) -> None:
        """The fastest of these ways of PyTorch, by two measurements each; one that fails is noted and left out."""
        seconds, fastest = {}, None
        for name in modes:
            try:
                worker = self._add(name, self.python, HERE / "torch_peer.py", self.task, *MODES[name])
            except RuntimeError as error:
                self.refused[name] = " ".join(str(error).split())[-150:]
                continue
            seconds[name] = min(worker(), worker())
            print(f"  {name}: {seconds[name]:.3f} s", flush=True)
            slower = name
            if fastest is None or seconds[name] < seconds[fastest]:
                fastest, slower = name, fastest
            if slower:  # at once, since all of them together may not fit into memory
                self.workers.pop(slower).close()

    def add_onnxruntime(self) -> None:
        """The network as ``afiu export`` writes it."""
        config = base_config().to_dict()
        config["task"] |= {"name": "sod", "positive": "salient"}
        config["data"]["normalize"] = "imagenet"
        config["model"] |= {"name": self.case.network, "options": self.case.options}
        saved = SavedModel(self._folder, 0, config, None, {}, {})
        self._model.eval()
        file = self._folder / "network.onnx"
        onnx_export.write(Exportable(saved, self._model, False, self.case.size), file)
        self._add("onnxruntime", sys.executable, HERE / "our_worker.py", "onnx", "--onnx", file)

    def _add(self, name: str, python: Path | str, script: Path, task: str, *options: object) -> Worker:
        found = self._folder / f"{len(self.difference)}-{task}.npz"
        case = ["--network", self.case.network, "--options", json.dumps(self.case.options)]
        worker = Worker(python, script, task, *options, *case, "--given", self._given, "--found", found)
        self._stack.callback(worker.close)
        with np.load(found) as file:
            found = dict(file)
        if name == "ours":
            self._expected = found
        differences = {key: _difference(key, found[key], expected) for key, expected in self._expected.items()}
        self.difference[name] = differences
        if any(value > TOLERANCE for value in differences.values()):
            raise SystemExit(f"{name} computes something else: relative differences {differences}")
        self.workers[name] = worker
        return worker


def _difference(key: str, found: np.ndarray, expected: np.ndarray) -> float:
    """As ``TOLERANCE`` is meant."""
    size = np.linalg.norm if key == "gradient" else lambda array: np.abs(array).max()
    return float(size(found - expected) / size(expected))
