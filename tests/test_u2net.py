"""U²-Net and U²-Netp: parameters, names, and the numbers of the original U²-Netp in use and in training."""

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

from afiu_jax import create_model
from afiu_jax.interop.layout import published_shapes, to_published
from afiu_jax.layers import count_parameters
from afiu_jax.losses import binary_cross_entropy
from afiu_jax.networks import NETWORKS, abstract_model

NAMES = {"u2net": "U2NET", "u2netp": "U2NETP"}
STAGES = [f"stage{x}" for x in range(1, 7)] + [f"stage{x}d" for x in range(5, 0, -1)]
# Of the stages.
PARAMETERS = {
    "u2net": [206016, 305856, 1108992, 3986688, 10034688, 10034688, 12393984, 4280064, 1181952, 323904, 139200],
    "u2netp": [67200, 95328, 88320, 81312, 81312, 81312, 118176, 118176, 125184, 132192, 139200],
}
TOTAL = {"u2net": 44_009_869, "u2netp": 1_131_181}


@pytest.fixture(scope="module", params=NAMES)
def abstract(request):
    return request.param, abstract_model(request.param)


def test_parameter_counts(abstract):
    name, model = abstract
    assert count_parameters(model) == TOTAL[name]
    assert [count_parameters(getattr(model, stage)) for stage in STAGES] == PARAMETERS[name]


def test_small_has_the_same_graph(abstract):
    name, model = abstract
    small = abstract_model(name, **NETWORKS[name].presets["small"])
    assert 200_000 < count_parameters(small) < 2_000_000
    assert published_shapes(small, name).keys() == published_shapes(model, name).keys()


def test_published_names(abstract):
    name, model = abstract
    assert published_shapes(model, name) == recorded_shapes(NAMES[name])


@pytest.mark.parametrize("size", [(64, 64), (33, 70), (1, 1)])
def test_any_size_gives_seven_maps_of_it(abstract, size):
    image = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    final, sides = nnx.eval_shape(lambda model, x: model(x), abstract[1], image)
    assert [map_.shape for map_ in (final, *sides)] == [(2, *size, 1)] * 7


@pytest.fixture(scope="module")
def original():
    """U²-Netp with the recorded weights: every stage and the prediction."""
    model = create_model("u2netp")
    fill_model(model, "u2netp")
    graph, state = nnx.split(model)

    @jax.jit
    def run(state, image):
        model = nnx.merge(graph, state)
        return model.stages(image), model(image)

    return partial(run, state)


@pytest.mark.parametrize("size", ["s96x96", "s70x102"])
def test_numbers_of_the_original(original, size):
    recording = Recording("U2NETP")
    stages, prediction = original(recording[f"{size}.input"])
    ours = {f"tap.{stage}": stages[stage] for stage in STAGES}
    ours |= {f"logit.d{x}": map_ for x, map_ in enumerate((prediction.logits, *prediction.side_logits))}
    assert ours.keys() == set(recording.keys(size))
    errors = {key: recording.error(f"{size}.{key}", value) for key, value in ours.items()}
    assert max(errors.values()) < 1e-4, errors


@pytest.mark.parametrize("side", [64, pytest.param(128, marks=pytest.mark.slow)])
def test_a_training_step_of_the_original(side):
    """Losses, gradients and running statistics in double precision: in single, these gradients have two digits."""
    recorded, size = np.load(fixture("U2NETP.train.npz")), f"s{side}x{side}"
    order = json.loads(fixture("U2NETP.train.meta.json").read_text())["param_order"]
    theirs = {key.removeprefix(f"{size}.f64."): recorded[key] for key in recorded if key.startswith(f"{size}.f64.")}
    with jax.enable_x64(True):
        model = create_model("u2netp", dtype="float64")
        fill_model(model, "u2netp")
        model.train()
        graph, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
        double = lambda tree: jax.tree.map(lambda a: a.astype(jnp.float64), tree)  # noqa: E731
        image, target = (channels_last(make) for make in (field((2, 3, side, side), "train"), mask((2, 1, side, side))))

        def loss(params, statistics):
            model = nnx.merge(graph, params, statistics, copy=True)
            prediction = model(double(image))
            losses = [binary_cross_entropy(x, target) for x in (prediction.logits, *prediction.side_logits)]
            return sum(losses), (losses, prediction.logits, nnx.state(model, nnx.BatchStat))

        # Compiling takes longer than the step; without LLVM's passes, half as long.
        step = jax.jit(jax.grad(loss, has_aux=True), compiler_options=QUICKLY_COMPILED)
        gradients, (losses, logits, statistics) = step(double(params), double(statistics))

    np.testing.assert_allclose(losses, [theirs[f"loss.bce.d{x}"] for x in range(7)], rtol=1e-6)
    np.testing.assert_allclose(logits, theirs["logit.d0"].transpose(0, 2, 3, 1), rtol=1e-6, atol=1e-6)

    nnx.update(model, gradients, statistics)
    ours = to_published(model, "u2netp")
    norms = dict(zip(order, theirs["gradnorm_all.total"], strict=True))
    for key, norm in norms.items():
        if key.endswith("conv_s1.bias"):  # a normalisation follows and takes the bias out again
            assert np.abs(ours[key]).max() < 1e-12
        else:
            np.testing.assert_allclose(np.linalg.norm(ours[key].astype(np.float64)), norm, rtol=1e-6, err_msg=key)
    for key in (key for key in recorded if key.startswith(f"{size}.grad.")):
        single = recorded[key]
        np.testing.assert_allclose(ours[key.partition("total.")[2]], single, atol=3e-2 * np.abs(single).max())
    for key in (key for key in theirs if key.startswith("bn.")):
        assert_running_statistic(ours[key.removeprefix("bn.")], theirs[key], key.removeprefix("bn."), side)


def assert_running_statistic(ours: np.ndarray, theirs: np.ndarray, key: str, side: int) -> None:
    """PyTorch keeps the unbiased variance, we the biased one: a tenth of each is new after one step."""
    stride = {"stage1": 1, "stage3": 32, "stage1d": 1}[key.split(".")[0]]
    n = 2 * (side // stride) ** 2
    if key.endswith("running_var"):
        old = 0.9 * fill(key, theirs.shape)
        theirs = old + (theirs - old) * (n - 1) / n
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_small_learns(name):
    assert loss_ratio(name) < 0.5
