"""Published names and layouts of every network, there and back; and what is refused."""

import json

import numpy as np
import pytest
from flax import nnx
from published import FIXTURES

from afiu_jax import create_model
from afiu_jax.errors import UserError
from afiu_jax.interop import load_torch_checkpoint
from afiu_jax.interop.layout import published_shapes, to_published
from afiu_jax.networks import NETWORKS, abstract_model

KEY_LISTS = {
    "u2net": "U2NET",
    "u2netp": "U2NETP",
    "basnet": "BASNet",
    "minet_vgg16": "MINet_VGG16",
    "minet_res50": "MINet_Res50",
    "cpd_vgg16": "CPD_VGG",
    "cpd_res50": "CPD_ResNet",
    "srm": "SRM",
    "sun": "SUN",
}


def small(name: str, seed: int = 0) -> nnx.Module:
    return create_model(name, rngs=nnx.Rngs(seed), **NETWORKS[name].presets["small"])


@pytest.fixture(scope="module")
def u2netp() -> dict[str, np.ndarray]:
    return to_published(small("u2netp", seed=1), "u2netp")


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="needs the key lists of the published networks")
@pytest.mark.parametrize("name", KEY_LISTS)
def test_names_and_shapes_are_the_published_ones(name):
    listed = json.loads((FIXTURES / f"{KEY_LISTS[name]}.keys.json").read_text())
    model = abstract_model(name)
    assert published_shapes(model, name) == {key: tuple(shape) for key, shape in listed}


@pytest.mark.parametrize("name", NETWORKS)
def test_import_after_export_is_the_identity(name):
    """With values that tell every element of every array apart."""
    model = small(name)
    random = np.random.default_rng(0)
    expected = {
        key: value if value.dtype == np.int64 else random.standard_normal(value.shape).astype(np.float32)
        for key, value in to_published(model, name).items()
    }
    report = load_torch_checkpoint(model, expected)
    assert len(report.loaded) + len(report.counters) == len(expected)
    found = to_published(model, name)
    assert found.keys() == expected.keys()
    for key, value in found.items():
        np.testing.assert_array_equal(value, expected[key], err_msg=key)
        assert value.dtype == (np.int64 if key.endswith("num_batches_tracked") else np.float32)
    if name == "sun":
        assert sum(report.kept.values()) == sum(expected[key].size for key in report.kept)
        assert "resnet.fc.weight" in report.kept


def test_kernels_are_transposed_and_dead_arrays_are_not():
    model = small("u2netp")
    kernel = np.asarray(model.stage1.embed.conv.kernel[...])
    exported = to_published(model, "u2netp")
    np.testing.assert_array_equal(exported["stage1.rebnconvin.conv_s1.weight"], kernel.transpose(3, 2, 0, 1))
    assert exported["stage1.rebnconvin.bn_s1.num_batches_tracked"] == 0


def test_prefixes_wrappers_and_missing_counters_are_accepted(u2netp):
    model = small("u2netp")
    bare = {key: value for key, value in u2netp.items() if not key.endswith("num_batches_tracked")}
    wrapped = {"epoch": 3, "net_state": {f"module.{key}": value for key, value in bare.items()}}
    report = load_torch_checkpoint(model, wrapped)
    assert len(report.loaded) == len(bare)
    assert report.counters == ()
    assert report.loaded["outconv.weight"] == "outconv.kernel"
    np.testing.assert_array_equal(to_published(model, "u2netp")["side1.weight"], u2netp["side1.weight"])


def test_what_does_not_fit_is_named_and_nothing_is_loaded(u2netp):
    model = small("u2netp")
    before = to_published(model, "u2netp")

    def refusal(state_dict) -> str:
        with pytest.raises(UserError) as raised:
            load_torch_checkpoint(model, state_dict)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    without = {key: value for key, value in u2netp.items() if not key.startswith(("side1.", "side2."))}
    assert "it lacks side1.bias, side1.weight, side2.bias and 1 more" in refusal(without)
    message = refusal({**u2netp, "extra.weight": np.zeros(3), "extra.num_batches_tracked": np.zeros(())})
    assert "has, unknown to the network, extra.weight, extra.num_batches_tracked" in message
    reshaped = {**u2netp, "outconv.weight": np.zeros((1, 7, 1, 1), np.float32)}
    assert "has other shapes for outconv.weight (1, 7, 1, 1), not (1, 6, 1, 1)" in refusal(reshaped)
    broken = {**u2netp, "outconv.bias": np.full((1,), np.nan, np.float32)}
    assert "not finite in outconv.bias" in refusal(broken)
    other = refusal(to_published(small("basnet"), "basnet"))
    assert "does not fit u2netp" in other
    assert "outconv.weight" in other
    assert "no state dict" in refusal({"epoch": 3})
    assert "no state dict" in refusal({})
    for key, value in to_published(model, "u2netp").items():
        np.testing.assert_array_equal(value, before[key])
