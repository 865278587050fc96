"""A network of one's own, added as README's last section says, in every command that a network passes through."""

from typing import ClassVar

import pytest
from conftest import tiny_config
from flax import nnx
from jaxtyping import Array, Float
from rich.console import Console

from afiu_jax.batch_norm import batch_norm
from afiu_jax.errors import UserError
from afiu_jax.evaluation import evaluate
from afiu_jax.export import export
from afiu_jax.inference import Predictor
from afiu_jax.layers import conv, resize
from afiu_jax.losses import DEFAULT_LOSS
from afiu_jax.networks import NETWORKS
from afiu_jax.networks.catalogue import networks_table
from afiu_jax.networks.prediction import Prediction
from afiu_jax.networks.sizes import LegalSizes
from afiu_jax.training.checkpoint import load_model
from afiu_jax.training.loop import train_and_evaluate
from input_pipeline.sources import Spec, open_source


class Pocket(nnx.Module):
    """Two convolutions: the least that is a network here."""

    sizes = LegalSizes(multiple=2)
    normalization = "imagenet"
    presets: ClassVar = {"wide": {"width": 8}}

    def __init__(self, width: int = 4, *, rngs: nnx.Rngs):
        self.stem, self.norm = conv(3, width, 3, stride=2, rngs=rngs), batch_norm(width, rngs=rngs)
        self.head = conv(width, 1, 3, rngs=rngs)

    def __call__(self, images: Float[Array, "b h w 3"]) -> Prediction:
        return Prediction(resize(self.head(nnx.relu(self.norm(self.stem(images)))), images.shape[1:3]))


@pytest.fixture(autouse=True)
def pocket(monkeypatch):
    monkeypatch.setitem(NETWORKS, "pocket", Pocket)
    monkeypatch.setitem(DEFAULT_LOSS, "pocket", "bce")


def config_of(task, **overrides):
    config = tiny_config(task, model__name="pocket", data__image_size=32, **overrides)
    config.model.options = {"width": 4}
    return config


def test_it_trains_transfers_and_evaluates(tmp_path):
    sod = train_and_evaluate(config_of("sod"), tmp_path / "sod")
    assert (sod.step, sod.scores.keys()) == (6, {"mae", "max_f"})
    assert load_model(tmp_path / "sod").config["model"]["options"] == {"width": 4}
    train_and_evaluate(config_of("dbd", train__num_steps=2), tmp_path / "dbd", str(tmp_path / "sod"))
    predictor = Predictor(tmp_path / "dbd", batch_size=4)
    scored = evaluate(predictor, open_source(Spec("scenes", split="test[:5]"), predictor.positive))
    assert (scored.images, 0 <= scored.scores["mae"] <= 1) == (5, True)


def test_it_is_listed():
    console = Console(width=200, record=True)
    console.print(networks_table())
    (line,) = [line for line in console.export_text().splitlines() if line.startswith("│ pocket")]
    assert " 157 " in line  # 3·3·3·4 + 4, 2·4, 3·3·4 + 1


def test_without_published_names_an_export_is_refused_in_one_line(tmp_path):
    train_and_evaluate(config_of("sod", train__num_steps=1), tmp_path / "run")
    with pytest.raises(UserError, match=r"^pocket has no published names, .*add afiu_jax/interop/names/pocket.py"):
        export(tmp_path / "run", tmp_path / "pocket.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
