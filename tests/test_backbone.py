"""Backbone weights in torchvision's names, and where they stand among the sources of initial weights."""

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import TINY_OPTIONS, tiny_config
from flax import nnx
from safetensors.numpy import save_file

from afiu_jax import create_model
from afiu_jax.errors import UserError
from afiu_jax.interop import load_backbone
from afiu_jax.interop.layout import entries, to_published
from afiu_jax.interop.names import names_of
from afiu_jax.networks import NETWORKS, abstract_model
from afiu_jax.training import loop
from afiu_jax.training.checkpoint import load_model
from afiu_jax.training.step import Report

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
    with pytest.raises(UserError, match=r"conv1.weight of .* is \(4, 3, 7, 7\), the network's is \(8, 3, 7, 7\)"):
        load_backbone(create_model("afiu", **{**TINY_OPTIONS, "width": 8}), weights)
    with pytest.raises(UserError, match=r"has no layer1\.1\..*; it must hold ImageNet's ResNet-50, whole"):
        load_backbone(create_model("afiu", **{**TINY_OPTIONS, "depths": (2, 1, 1, 1)}), weights)
    model = create_model("afiu", **TINY_OPTIONS)
    with pytest.raises(UserError, match="no file"):
        load_backbone(model, tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"model\.backbone_weights: cannot read"):
        load_backbone(model, tmp_path / "bad.safetensors")
    with pytest.raises(UserError, match=r"not a kind of file that weights are read from: \.safetensors"):
        load_backbone(model, __file__)


def test_numbers_that_are_not_finite_are_refused_and_nothing_is_loaded(tmp_path):
    model = create_model("afiu", **TINY_OPTIONS)
    before = to_published(model, "afiu")
    broken = {**state_dict(), "layer4.0.bn1.bias": np.full(8 * WIDTH, np.nan, np.float32)}
    save_file(broken, tmp_path / "broken.safetensors")
    with pytest.raises(UserError, match=r"layer4\.0\.bn1\.bias of .* has numbers that are not finite"):
        load_backbone(model, tmp_path / "broken.safetensors")
    for key, value in to_published(model, "afiu").items():
        np.testing.assert_array_equal(value, before[key])


def test_a_deeper_network_of_the_family_is_refused(tmp_path):
    deeper = state_dict()
    save_file({**deeper, "layer3.1.conv1.weight": deeper["layer3.0.conv1.weight"]}, tmp_path / "deeper.safetensors")
    with pytest.raises(UserError, match=r"has layer3\.1\.conv1\.weight, for which afiu has no place"):
        load_backbone(create_model("afiu", **TINY_OPTIONS), tmp_path / "deeper.safetensors")


def keys_of_torchvision(name: str) -> set[str]:
    """Names of ImageNet networks, written down from torchvision's definitions; classifiers left out."""
    norm = ("weight", "bias", "running_mean", "running_var")
    if name.startswith("vgg16"):
        keys, layer = set(), 0
        for depth in (2, 2, 3, 3, 3):
            for _ in range(depth):
                keys |= {f"features.{layer}.weight", f"features.{layer}.bias"}
                if name == "vgg16_bn":
                    keys |= {f"features.{layer + 1}.{leaf}" for leaf in norm}
                layer += 3 if name == "vgg16_bn" else 2
            layer += 1
        return keys
    keys = {"conv1.weight", *(f"bn1.{leaf}" for leaf in norm)}
    for layer, depth in enumerate((3, 4, 6, 3), start=1):
        for block in range(depth):
            at = f"layer{layer}.{block}"
            for i in (1, 2, 3) if name == "resnet50" else (1, 2):
                keys |= {f"{at}.conv{i}.weight", *(f"{at}.bn{i}.{leaf}" for leaf in norm)}
            if block == 0 and (layer > 1 or name == "resnet50"):
                keys |= {f"{at}.downsample.0.weight", *(f"{at}.downsample.1.{leaf}" for leaf in norm)}
    return keys


@pytest.mark.parametrize(
    ("network", "backbone"),
    [
        ("afiu", "resnet50"),
        ("minet_res50", "resnet50"),
        ("cpd_res50", "resnet50"),
        ("sun", "resnet50"),
        ("basnet", "resnet34"),
        ("minet_vgg16", "vgg16_bn"),
        ("cpd_vgg16", "vgg16"),
    ],
)
def test_the_whole_backbone_is_asked_for(network, backbone):
    model = abstract_model(network)
    asked = {names_of(network).backbone_name(entry.key) for entry in entries(model, network)} - {None}
    stem = {key for key in keys_of_torchvision(backbone) if key.startswith(("conv1.", "bn1."))}
    assert asked == keys_of_torchvision(backbone) - (stem if network == "basnet" else set())


def test_a_classifier_in_the_names_of_timm_is_passed_over(tmp_path):
    model = create_model("cpd_vgg16", **NETWORKS["cpd_vgg16"].presets["small"])
    weights = {
        names_of("cpd_vgg16").backbone_name(entry.key): np.full(entry.shape, 3.0, np.float32)
        for entry in entries(model, "cpd_vgg16")
        if entry.key.startswith("vgg.")
    }
    classifier = {"pre_logits.fc1.weight": np.zeros((2, 2)), "head.fc.bias": np.zeros(2)}
    save_file({**weights, **classifier}, tmp_path / "vgg16.safetensors")
    both_branches = len(weights) + 2 * 6  # three convolutions of each of two levels, twice
    assert load_backbone(model, tmp_path / "vgg16.safetensors") == both_branches
    published = to_published(model, "cpd_vgg16")
    for branch in (1, 2):
        assert (published[f"vgg.conv5_{branch}.conv5_3_{branch}.weight"] == 3).all()


@pytest.mark.parametrize(("network", "reason"), [("srm", "a Caffe model"), ("u2netp", "published without one")])
def test_networks_without_such_a_backbone_say_why(network, reason, weights):
    model = abstract_model(network)
    with pytest.raises(UserError, match=f"no file of torchvision or timm is a backbone of {network}: .*{reason}"):
        load_backbone(model, weights)


def test_precedence_of_initial_weights(untrained, weights, tmp_path, monkeypatch):
    """init_from > backbone_weights > random; that resuming goes before all is tested with the resuming."""
    seen = []

    def make_step_that_changes_nothing(graph, *_, **__):
        def step(state, *_):
            seen.append(np.asarray(nnx.merge(graph, state.params, state.batch_stats, copy=True).E1.conv.kernel[...]))
            return state.replace(step=state.step + 1), Report(np.float32(1), np.float32(1))

        step.lower = lambda *_: SimpleNamespace(compile=lambda: None)
        return step

    monkeypatch.setattr(loop, "make_train_step", make_step_that_changes_nothing)
    config = tiny_config(train__num_steps=1, model__backbone_weights=str(weights))
    backbone = state_dict()["conv1.weight"].transpose(2, 3, 1, 0)
    prior = load_model(untrained).params["E1.conv.kernel"]
    loop.train_and_evaluate(config, tmp_path / "a")
    np.testing.assert_array_equal(seen.pop(), backbone)
    loop.train_and_evaluate(config, tmp_path / "b", str(untrained))
    np.testing.assert_array_equal(seen.pop(), prior)
