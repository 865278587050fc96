"""What a run is refused before it begins, and what it may be begun again with."""

import shutil
from typing import ClassVar

import jax
import numpy as np
import pytest
from conftest import tiny_config
from flax import nnx
from jaxtyping import Array, Float
from PIL import Image
from pocket import pocket_config

from afiu_jax.batch_norm import batch_norm
from afiu_jax.errors import UserError
from afiu_jax.layers import conv, resize
from afiu_jax.losses import DEFAULT_LOSS
from afiu_jax.networks import NETWORKS
from afiu_jax.networks.prediction import Prediction
from afiu_jax.networks.sizes import LegalSizes
from afiu_jax.training import loop
from afiu_jax.training.config import resolve
from afiu_jax.training.full_memory import naming_full_memory
from afiu_jax.training.loop import train_and_evaluate
from afiu_jax.training.schema import dataset


def test_a_run_that_saved_nothing_may_begin_again_otherwise(pocket, tmp_path, monkeypatch):
    """Its first step wants more memory than there is; the remedies that it names are taken in the same folder."""

    def fail(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "in_own_layouts", lambda step: fail)
        with pytest.raises(UserError, match=r"not enough memory for pocket .* 2 images of 64x64.*train.accumulate=2"):
            train_and_evaluate(pocket_config(train__layouts=True), tmp_path)
    assert (tmp_path / "config.json").exists()
    assert train_and_evaluate(pocket_config(train__batch_size=4), tmp_path).step == 6


@pytest.mark.parametrize(
    "told",
    [
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.",
        "INTERNAL: Failed to allocate 9 bytes: CUDA_ERROR_OUT_OF_MEMORY",
        "INTERNAL: NCCL operation failed: Cuda failure 2 'out of memory'",
        "FAILED_PRECONDITION: DNN library initialization failed. Look at the errors above for more details.",
    ],
)
def test_full_memory_is_known_by_what_xla_and_cuda_say(pocket, told):
    with pytest.raises(UserError, match="not enough memory for pocket"), naming_full_memory(resolve(pocket_config())):
        raise jax.errors.JaxRuntimeError(told)


def test_other_errors_of_xla_stay_what_they_are(pocket):
    with pytest.raises(jax.errors.JaxRuntimeError), naming_full_memory(resolve(pocket_config())):
        raise jax.errors.JaxRuntimeError("INTERNAL: a fault")


def test_a_start_that_has_moved_is_no_other_start(pocket, pocket_run, tmp_path):
    start, run = tmp_path / "a" / "sod", tmp_path / "dbd"
    shutil.copytree(pocket_run, start)
    short, long = pocket_config(train__num_steps=2), pocket_config(train__num_steps=3)
    train_and_evaluate(short, run, str(start))
    other = shutil.copytree(start, tmp_path / "b" / "sod")
    with pytest.raises(UserError, match="init_from"):
        train_and_evaluate(long, run, str(other))  # both are there
    shutil.rmtree(start)
    with pytest.raises(UserError, match="init_from"):
        train_and_evaluate(long, run, str(tmp_path / "c" / "sod"))  # neither is
    assert train_and_evaluate(long, run, str(other)).step == 3


def test_data_of_another_folder_is_told(pocket, tmp_path, capsys):
    """Photos may have been copied to a faster disk; the same names in two places may also be two data sets."""
    for root in ("first", "second"):
        for part in ("images", "masks"):
            (tmp_path / root / part).mkdir(parents=True)
            for i in range(2):
                grey = np.full((64, 64, 3), 100 * i, np.uint8)
                Image.fromarray(grey if part == "images" else grey[..., 0] // 100 * 255).save(
                    tmp_path / root / part / f"{i}.png"
                )

    def run(root: str, steps: int) -> str:
        config = pocket_config(train__num_steps=steps)
        config.data.train = dataset("folder", path=tmp_path / root)
        assert train_and_evaluate(config, tmp_path / "run").step == steps
        return capsys.readouterr().out

    assert "warning" not in run("first", 1)
    assert "warning" not in run("first", 2)
    said = " ".join(run("second", 3).split())
    assert f"data.train.path: {tmp_path / 'first'} -> {tmp_path / 'second'}, and the old one is still there" in said
    shutil.rmtree(tmp_path / "first")
    assert "warning" not in run("second", 4)


class Deep(nnx.Module):
    """Halves a map five times, and normalises what is left of 32 pixels."""

    sizes, normalization = LegalSizes(multiple=32), "imagenet"
    presets: ClassVar = {}

    def __init__(self, width: int = 4, *, rngs: nnx.Rngs):
        self.stem, self.norm = conv(3, width, 3, stride=32, rngs=rngs), batch_norm(width, rngs=rngs)
        self.head = conv(width, 1, 1, rngs=rngs)

    def __call__(self, images: Float[Array, "b h w 3"]) -> Prediction:
        return Prediction(resize(self.head(self.norm(self.stem(images))), images.shape[1:3]))


def test_one_pixel_of_one_image_is_nothing_to_normalise(tmp_path, monkeypatch):
    monkeypatch.setitem(NETWORKS, "deep", Deep)
    monkeypatch.setitem(DEFAULT_LOSS, "deep", "bce")

    def config(size, **train):
        changes = {f"train__{key}": value for key, value in {"num_steps": 1, "batch_size": 2, **train}.items()}
        config = tiny_config(model__name="deep", data__image_size=size, **changes)
        config.model.options = {}
        return config

    for parts in ({"batch_size": 1}, {"accumulate": 2}, {"norm_groups": 2}):
        with pytest.raises(UserError, match=r"at 32 px deep has maps of one pixel.*two images for each"):
            train_and_evaluate(config(32, **parts), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert train_and_evaluate(config(32), tmp_path / "two").step == 1
    assert train_and_evaluate(config(64, accumulate=2), tmp_path / "larger").step == 1
