"""MINet on both backbones: parameters, names, sizes, and the numbers of the originals in use and in training."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fitting import loss_ratio
from flax import nnx
from one_program import QUICKLY_COMPILED
from published import Recording, channels_last, field, fill, fill_model, fixture, mask, recorded_shapes
from vgg_reference import vgg_levels

from afiu_jax import create_model
from afiu_jax.blocks.resnet import run_levels
from afiu_jax.interop.layout import published_shapes, to_published
from afiu_jax.interop.names.minet import backbone_name
from afiu_jax.layers import count_parameters
from afiu_jax.losses import binary_cross_entropy, consistency_enhanced
from afiu_jax.networks import NETWORKS, abstract_model

NAMES = {"minet_res50": "MINet_Res50", "minet_vgg16": "MINet_VGG16"}
LEVELS = range(1, 6)
TOTAL = {"minet_res50": 162_378_305, "minet_vgg16": 47_562_737}
AIMS = {"minet_res50": 137_722_176, "minet_vgg16": 31_874_112}
BACKBONE = {
    "minet_res50": [9_536, 215_808, 1_219_584, 7_098_368, 14_964_736],
    "minet_vgg16": [38_976, 221_952, 1_476_864, 5_902_848, 7_082_496],
}
SIMS = {"minet_res50": [194_464] * 5, "minet_vgg16": [48_848, *[194_464] * 4]}


@pytest.fixture(scope="module", params=NAMES)
def abstract(request):
    return request.param, abstract_model(request.param)


def test_parameter_counts(abstract):
    name, model = abstract
    count = lambda kind: [count_parameters(getattr(model, f"{kind}{x}")) for x in LEVELS]  # noqa: E731
    assert count_parameters(model) == TOTAL[name]
    assert count("E") == BACKBONE[name]
    assert sum(count("AIM")) == AIMS[name]
    assert count("SIM") == SIMS[name]


def test_small_has_the_same_modules(abstract):
    name, model = abstract
    small = abstract_model(name, **NETWORKS[name].presets["small"])
    assert 200_000 < count_parameters(small) < 2_000_000
    assert vars(small).keys() == vars(model).keys()


def test_published_names(abstract):
    name, model = abstract
    assert published_shapes(model, name) == recorded_shapes(NAMES[name])


def test_imagenets_names():
    theirs = {backbone_name(key) for key in recorded_shapes("MINet_Res50")} - {None}
    assert len(theirs) == 318
    assert {"conv1.weight", "bn1.running_var", "layer1.0.downsample.1.bias", "layer4.2.bn3.weight"} <= theirs
    of_vgg = {key: backbone_name(key) for key in recorded_shapes("MINet_VGG16")}
    convolutions = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]
    kernels = [theirs for key, theirs in of_vgg.items() if theirs and f"{key[:-6]}running_mean" not in of_vgg]
    assert [key for key in kernels if key.endswith("weight")] == [f"features.{i}.weight" for i in convolutions]
    assert of_vgg["encoder16.8.running_var"] == "features.41.running_var"


@pytest.mark.parametrize(
    ("name", "size", "output"),
    [
        ("minet_res50", (64, 96), (64, 96)),
        ("minet_res50", (63, 95), (64, 96)),
        ("minet_vgg16", (32, 80), (32, 80)),
    ],
)
def test_shapes(name, size, output):
    stages = _shapes(name, size)
    assert stages["logits"] == (2, *output, 1)
    stride = output[0] // stages["E1"][1]
    sizes = [(2, *(n // (stride * 2**i) for n in output)) for i in range(5)]
    assert all([stages[f"{kind}{x}"][:3] for x in LEVELS] == sizes for kind in ("E", "AIM", "SIM", "D"))


@pytest.mark.parametrize(
    ("name", "size"), [("minet_res50", (62, 64)), ("minet_res50", (32, 64)), ("minet_vgg16", (16, 31))]
)
def test_illegal_sizes(name, size):
    with pytest.raises(ValueError, match=f"{name} takes .*, not {size[0]}x{size[1]}; nearest: "):
        _shapes(name, size)


def _shapes(name, size):
    model = abstract_model(name, **NETWORKS[name].presets["small"])
    image = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    return {key: x.shape for key, x in nnx.eval_shape(lambda model, x: model.stages(x), model, image).items()}


@pytest.fixture(scope="module")
def original():
    """The stages of MINet-Res50 with the recorded weights."""
    model = create_model("minet_res50")
    fill_model(model, "minet_res50")
    graph, state = nnx.split(model)
    return partial(jax.jit(lambda state, image: nnx.merge(graph, state).stages(image)), state)


@pytest.mark.parametrize("size", ["s96x64", pytest.param("s96x96", marks=pytest.mark.slow)])
def test_numbers_of_the_original(original, size):
    recording = Recording("MINet_Res50")
    stages = original(recording[f"{size}.input"])
    ours = {"logit.logits": stages["logits"]}
    for x in LEVELS:
        ours |= {f"tap.trans.{x - 1}": stages[f"AIM{x}"], f"tap.sim{2**x}": stages[f"SIM{x}"]}
    assert ours.keys() == set(recording.keys(size))
    errors = {key: recording.error(f"{size}.{key}", value) for key, value in ours.items()}
    assert max(errors.values()) < 1e-4, errors


def test_levels_of_vgg16():
    """AIM, SIM and the decoder are those of MINet-Res50; the levels are in no recording."""
    published = recorded_shapes("MINet_VGG16")
    encoders, image = [f"encoder{2**i}" for i in range(5)], field((1, 3, 32, 48))
    arrays = {key: fill(key, shape) for key, shape in published.items() if key.startswith("encoder")}
    theirs = vgg_levels(arrays, encoders, image, np.max)
    model = create_model("minet_vgg16")
    fill_model(model, "minet_vgg16")
    ours = run_levels(tuple(getattr(model, f"E{x}") for x in LEVELS), channels_last(image))
    for mine, original in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.transpose(0, 3, 1, 2), original, rtol=0, atol=1e-5 * original.max())


@pytest.mark.slow
@pytest.mark.parametrize("side", [64, 128])
def test_a_training_step_of_the_original(side):
    """Losses, gradients and running statistics in double precision: in single, these gradients have three digits."""
    recorded, size = np.load(fixture("MINet_Res50.train.npz")), f"s{side}x{side}"
    order = json.loads(fixture("MINet_Res50.train.meta.json").read_text())["param_order"]
    theirs = {key.removeprefix(f"{size}.f64."): recorded[key] for key in recorded if key.startswith(f"{size}.f64.")}
    with jax.enable_x64(True):
        model = create_model("minet_res50", dtype="float64")
        fill_model(model, "minet_res50")
        model.train()
        graph, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
        double = lambda tree: jax.tree.map(lambda a: a.astype(jnp.float64), tree)  # noqa: E731
        image, target = (channels_last(make) for make in (field((2, 3, side, side), "train"), mask((2, 1, side, side))))

        def losses_of(params, statistics):
            model = nnx.merge(graph, params, statistics, copy=True)
            logits = model.stages(double(image))["logits"]
            losses = {"bce": binary_cross_entropy(logits, target), "cel": consistency_enhanced(logits, target)}
            return losses, (logits, nnx.state(model, nnx.BatchStat))

        def step(params, statistics):
            losses, pull, (logits, statistics) = jax.vjp(lambda p: losses_of(p, statistics), params, has_aux=True)
            one, none = (jnp.full_like(losses["bce"], x) for x in (1, 0))
            gradients = {"total": pull({"bce": one, "cel": one})[0], "bce": pull({"bce": one, "cel": none})[0]}
            return gradients, losses, logits, statistics

        step = jax.jit(step, compiler_options=QUICKLY_COMPILED)
        gradients, losses, logits, statistics = step(double(params), double(statistics))

    for name, value in {**losses, "total": losses["bce"] + losses["cel"]}.items():
        np.testing.assert_allclose(value, theirs[f"loss.{name}"], rtol=1e-6)
    np.testing.assert_allclose(logits, theirs["logit.logits"].transpose(0, 2, 3, 1), rtol=1e-6, atol=1e-6)

    for loss, gradient in gradients.items():
        nnx.update(model, gradient, statistics)
        ours = to_published(model, "minet_res50")
        for key, norm in zip(order, theirs[f"gradnorm_all.{loss}"], strict=True):
            if key.endswith("bias") and key.startswith(("trans", "sim")) and ".bn" not in key and "identity" not in key:
                assert np.abs(ours[key]).max() < 1e-12  # a normalisation follows and takes the bias out again
            else:
                np.testing.assert_allclose(np.linalg.norm(ours[key].astype(np.float64)), norm, rtol=1e-6, err_msg=key)
        for key in (key for key in recorded if key.startswith(f"{size}.grad.{loss}.")):
            single = recorded[key]
            np.testing.assert_allclose(ours[key.partition(f"{loss}.")[2]], single, atol=2e-3 * np.abs(single).max())
    for key in (key.removeprefix("bn.") for key in theirs if key.startswith("bn.")):
        stride = {"div_2": 2, "trans": 8, "upconv1": 1}[key.partition(".")[0]]
        assert_running_statistic(ours[key], theirs[f"bn.{key}"], key, 2 * (side // stride) ** 2)


def assert_running_statistic(ours: np.ndarray, theirs: np.ndarray, key: str, n: int) -> None:
    """PyTorch keeps the unbiased variance of n numbers, we the biased one: a tenth of each is new after one step."""
    if key.endswith("running_var"):
        old = 0.9 * fill(key, theirs.shape)
        theirs = old + (theirs - old) * (n - 1) / n
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["minet_res50", "minet_vgg16"])
def test_small_learns(name):
    assert loss_ratio(name, learning_rate=3e-3) < 0.5
