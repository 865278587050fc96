"""A network of one's own, added as README's last section says, in every command that a network passes through."""

import pytest
from pocket import pocket_config
from rich.console import Console

from afiu_jax.errors import UserError
from afiu_jax.evaluation import evaluate
from afiu_jax.export import export
from afiu_jax.inference import Predictor
from afiu_jax.networks import NETWORKS, catalogue
from afiu_jax.training.checkpoint import load_model
from afiu_jax.training.loop import train_and_evaluate
from input_pipeline.sources import Spec, open_source

pytestmark = pytest.mark.usefixtures("pocket")


def test_it_trains_transfers_and_evaluates(tmp_path):
    sod = train_and_evaluate(pocket_config("sod"), tmp_path / "sod")
    assert (sod.step, sod.scores.keys()) == (6, {"mae", "max_f"})
    assert load_model(tmp_path / "sod").config["model"]["options"] == {"width": 4}
    train_and_evaluate(pocket_config("dbd", train__num_steps=2), tmp_path / "dbd", str(tmp_path / "sod"))
    predictor = Predictor(tmp_path / "dbd", batch_size=4)
    scored = evaluate(predictor, open_source(Spec("scenes", split="test[:5]"), predictor.positive))
    assert (scored.images, 0 <= scored.scores["mae"] <= 1) == (5, True)


def test_it_is_listed(monkeypatch):
    monkeypatch.setattr(catalogue, "NETWORKS", {"pocket": NETWORKS["pocket"]})
    console = Console(width=200, record=True)
    console.print(catalogue.networks_table())
    (line,) = [line for line in console.export_text().splitlines() if line.startswith("│ pocket")]
    assert " 157 " in line  # 3·3·3·4 + 4, 2·4, 3·3·4 + 1


def test_without_published_names_an_export_is_refused_in_one_line(tmp_path):
    train_and_evaluate(pocket_config("sod", train__num_steps=1), tmp_path / "run")
    with pytest.raises(UserError, match=r"^pocket has no published names, .*add afiu_jax/interop/names/pocket.py"):
        export(tmp_path / "run", tmp_path / "pocket.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
