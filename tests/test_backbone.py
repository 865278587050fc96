"""Backbone weights in torchvision's names, and where they stand among the sources of initial weights."""

import numpy as np
import pytest
from conftest import TINY_OPTIONS, tiny_config
from flax import nnx
from safetensors.numpy import save_file

from afiu_jax import create_model
from afiu_jax.errors import UserError
from afiu_jax.interop.backbone import load_backbone
from afiu_jax.training import loop
from afiu_jax.training.checkpoint import load_model

# Names and channels of torchvision's ResNet, written down from its documentation, at one bottleneck a level.
WIDTH = TINY_OPTIONS["width"]


def state_dict() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    out: dict[str, np.ndarray] = {}

    def add(name, *shape):
        out[name] = random.random(shape).astype(np.float32)

    def add_norm(name, channels):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            add(f"{name}.{leaf}", channels)
        out[f"{name}.num_batches_tracked"] = np.zeros((), np.int64)

    add("conv1.weight", WIDTH, 3, 7, 7)
    add_norm("bn1", WIDTH)
    before = WIDTH
    for layer in range(1, 5):
        width = WIDTH * 2 ** (layer - 1)
        for i, (o, c, k) in enumerate([(width, before, 1), (width, width, 3), (4 * width, width, 1)], start=1):
            add(f"layer{layer}.0.conv{i}.weight", o, c, k, k)
            add_norm(f"layer{layer}.0.bn{i}", o)
        add(f"layer{layer}.0.downsample.0.weight", 4 * width, before, 1, 1)
        add_norm(f"layer{layer}.0.downsample.1", 4 * width)
        before = 4 * width
    add("fc.weight", 1000, before)
    add("fc.bias", 1000)
    return out


@pytest.fixture
def weights(tmp_path):
    save_file(state_dict(), tmp_path / "resnet.safetensors")
    return tmp_path / "resnet.safetensors"


def test_every_array_goes_where_it_belongs(weights, tmp_path):
    model, expected = create_model("afiu", **TINY_OPTIONS), state_dict()
    used = {name for name in expected if not name.startswith("fc") and "tracked" not in name}
    assert load_backbone(model, weights) == len(used)
    np.testing.assert_array_equal(model.E1.conv.kernel[...], expected["conv1.weight"].transpose(2, 3, 1, 0))
    block = model.E4.blocks[0]
    np.testing.assert_array_equal(
        block.downsample_conv.kernel[...], expected["layer3.0.downsample.0.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(block.bn2.var[...], expected["layer3.0.bn2.running_var"])
    np.testing.assert_array_equal(block.bn3.bias[...], expected["layer3.0.bn3.bias"])
    np.savez(tmp_path / "resnet.npz", **expected)
    assert load_backbone(model, tmp_path / "resnet.npz") == len(used)


def test_what_does_not_fit_is_named(weights, tmp_path):
    with pytest.raises(UserError, match=r"conv1.weight of .* is \(7, 7, 3, 4\), the network's is \(7, 7, 3, 8\)"):
        load_backbone(create_model("afiu", **{**TINY_OPTIONS, "width": 8}), weights)
    with pytest.raises(UserError, match=r"has no layer1\.1\."):
        load_backbone(create_model("afiu", **{**TINY_OPTIONS, "depths": (2, 1, 1, 1)}), weights)
    model = create_model("afiu", **TINY_OPTIONS)
    with pytest.raises(UserError, match="no file"):
        load_backbone(model, tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot read"):
        load_backbone(model, tmp_path / "bad.safetensors")
    with pytest.raises(UserError, match=r"neither \.safetensors nor \.npz"):
        load_backbone(model, __file__)


def test_precedence_of_initial_weights(sod_run, weights, tmp_path, monkeypatch):
    """init_from > backbone_weights > random; that resuming goes before all is tested with the resuming."""
    seen = []
    real = loop.make_train_step

    def spy(graph, *arguments, **options):
        step = real(graph, *arguments, **options)

        def spied(state, *batch):
            seen.append(np.asarray(nnx.merge(graph, state.params, state.batch_stats, copy=True).E1.conv.kernel[...]))
            return step(state, *batch)

        return spied

    monkeypatch.setattr(loop, "make_train_step", spy)
    config = tiny_config(train__num_steps=1, model__backbone_weights=str(weights))
    backbone = state_dict()["conv1.weight"].transpose(2, 3, 1, 0)
    prior = load_model(sod_run).params["E1.conv.kernel"]
    loop.train_and_evaluate(config, tmp_path / "a")
    np.testing.assert_array_equal(seen.pop(), backbone)
    loop.train_and_evaluate(config, tmp_path / "b", str(sod_run))
    np.testing.assert_array_equal(seen.pop(), prior)
