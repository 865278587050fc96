"""The paper's transfer, SOD to DBD, and what comes after it, for every network of its Table 2."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from safetensors.numpy import load_file

from afiu_jax import create_model
from afiu_jax.evaluation import evaluate
from afiu_jax.export import export
from afiu_jax.inference import Predictor
from afiu_jax.interop import load_torch_checkpoint
from afiu_jax.interop.importing import published_config
from afiu_jax.interop.layout import published_shapes
from afiu_jax.networks import NETWORKS
from afiu_jax.training.checkpoint import Checkpoints, load_model
from afiu_jax.training.loop import train_and_evaluate
from afiu_jax.training.saved import transfer
from afiu_jax.training.schema import load_config
from afiu_jax.training.state import create_state, flatten
from afiu_jax.workdir import sole_use
from input_pipeline.sources import Spec, open_source

pytestmark = pytest.mark.slow  # minutes: real studies, all networks


def small(name: str) -> nnx.Module:
    return create_model(name, **NETWORKS[name].presets["small"])


def arrays(model: nnx.Module) -> dict[str, jax.Array]:
    return flatten(nnx.state(model, (nnx.Param, nnx.BatchStat)))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_array_is_transferred(name, tmp_path):
    """Out of a checkpoint on disk, into a network of zeros."""
    model, random = small(name), np.random.default_rng(0)
    variables = [variable for _, variable in nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))]
    for variable in variables:
        variable.set_value(jnp.asarray(random.random(variable.shape, np.float32)))
    expected = {key: np.asarray(value) for key, value in arrays(model).items()}
    with sole_use(tmp_path) as hold, Checkpoints(tmp_path, 1, hold) as checkpoints:
        checkpoints.save(create_state(model, optax.identity()), published_config(name, "small"), None)
        checkpoints.wait()
    for variable in variables:
        variable.set_value(jnp.asarray(np.zeros(variable.shape, np.float32)))
    report = transfer(load_model(tmp_path), model, name)
    assert not (report.absent or report.reshaped or report.unused)
    assert set(report.loaded) == expected.keys()
    for key, value in arrays(model).items():
        np.testing.assert_array_equal(value, expected[key], err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_from_scenes_to_a_file_for_pytorch(name, tmp_path, capsys):
    """configs/sod.py and configs/dbd.py with ``model.name`` changed; then maps, scores and an export."""
    side = NETWORKS[name].sizes.nearest(32)[1]
    for task, start in (("sod", None), ("dbd", str(tmp_path / "sod"))):
        config = load_config(task, "demo")
        config.model.name, config.data.image_size = name, side
        config.train.batch_size = config.train.num_steps = config.eval.batch_size = 2
        config.data.val.split = "val[:2]"
        outcome = train_and_evaluate(config, tmp_path / task, start)
        assert outcome.step == 2
    printed = re.search(r"loaded (\d+), absent 0, reshaped 0, unused 0", " ".join(capsys.readouterr().out.split()))
    assert printed
    assert int(printed[1]) == len(arrays(small(name)))

    test = open_source(Spec("scenes", split="test[:2]"), "blur")
    predictor = Predictor(tmp_path / "dbd", batch_size=2)
    ((_, found), _) = predictor.maps([test[i] for i in range(2)])
    assert found.shape == test[0]["mask"].shape
    assert 0 <= evaluate(predictor, test).scores["mae"] <= 1
    path, _, _ = export(tmp_path / "dbd", tmp_path / f"{name}.safetensors")
    exported = load_file(path)
    again = small(name)
    load_torch_checkpoint(again, exported)
    assert {key: value.shape for key, value in exported.items()} == published_shapes(again, name)
    saved = load_model(tmp_path / "dbd")
    for key, value in arrays(again).items():
        np.testing.assert_array_equal(value, {**saved.params, **saved.batch_stats}[key], err_msg=key)
