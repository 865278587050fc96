"""CPD on both backbones: parameters, names, sizes, the attention's kernel, and the numbers of the originals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fitting import loss_ratio
from flax import nnx
from published import Recording, channels_last, field, fill, fill_model, fixture, recorded_shapes
from scipy import signal
from vgg_reference import vgg_levels

from afiu_jax import create_model
from afiu_jax.blocks.holistic_attention import HolisticAttention
from afiu_jax.blocks.resnet import run_levels
from afiu_jax.interop.layout import published_shapes
from afiu_jax.interop.names.cpd import backbone_name
from afiu_jax.layers import count_parameters
from afiu_jax.networks import NETWORKS, abstract_model

NAMES = {"cpd_res50": "CPD_ResNet", "cpd_vgg16": "CPD_VGG"}
TOTAL = {"cpd_res50": 47_851_075, "cpd_vgg16": 29_232_771}
# Of RFB3…RFB5 and the decoder of one branch.
BRANCH = {"cpd_res50": [178_112, 260_032, 423_872, 277_473], "cpd_vgg16": [136_672, 177_632, 177_632, 277_025]}
TAPS = {"logit.attention": "attention", "logit.detection": "logits", "tap.HA": "HA"}
TAPS |= {f"tap.rfb{x - 1}_1": f"RFB{x}_1" for x in (3, 4, 5)} | {f"tap.agg{b}": f"decoder_{b}" for b in (1, 2)}


@pytest.fixture(scope="module", params=NAMES)
def abstract(request):
    return request.param, abstract_model(request.param)


def test_parameter_counts(abstract):
    name, model = abstract
    assert count_parameters(model) == TOTAL[name]
    assert count_parameters(model.HA) == 31**2
    for b in (1, 2):
        parts = (*(f"RFB{x}_{b}" for x in (3, 4, 5)), f"decoder_{b}")
        assert [count_parameters(getattr(model, part)) for part in parts] == BRANCH[name]


def test_small_has_the_same_modules(abstract):
    name, model = abstract
    small = abstract_model(name, **NETWORKS[name].presets["small"])
    assert 200_000 < count_parameters(small) < 2_000_000
    assert vars(small).keys() == vars(model).keys()


def test_published_names(abstract):
    name, model = abstract
    assert published_shapes(model, name) == recorded_shapes(NAMES[name])


def test_both_branches_begin_with_imagenets_weights():
    of_resnet, of_vgg = ({key: backbone_name(key) for key in recorded_shapes(name)} for name in NAMES.values())
    assert of_resnet["resnet.conv1.weight"] == "conv1.weight"
    assert of_resnet["resnet.layer3_1.5.bn2.bias"] == of_resnet["resnet.layer3_2.5.bn2.bias"] == "layer3.5.bn2.bias"
    assert len(set(of_resnet.values()) - {None}) == 318
    kernels = [theirs for key, theirs in of_vgg.items() if theirs and key.endswith("weight")]
    features = [f"features.{i}.weight" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)]
    assert kernels == [*features, *features[7:]]
    assert of_vgg["HA.gaussian_kernel"] is of_vgg["rfb3_1.conv_cat.weight"] is None


@pytest.mark.parametrize(
    ("name", "size", "output"),
    [
        ("cpd_res50", (64, 57), (64, 64)),
        ("cpd_res50", (25, 90), (32, 96)),
        ("cpd_vgg16", (32, 67), (32, 64)),
        ("cpd_vgg16", (17, 98), (16, 96)),
    ],
)
def test_shapes(name, size, output):
    stages = _shapes(name, size)
    assert stages["attention"] == stages["logits"] == (2, *output, 1)
    stride = {"cpd_res50": 8, "cpd_vgg16": 4}[name]
    for b in (1, 2):
        for x in (3, 4, 5):
            assert stages[f"RFB{x}_{b}"][1:3] == tuple(n // (stride * 2 ** (x - 3)) for n in output)


@pytest.mark.parametrize(("name", "size"), [("cpd_res50", (56, 64)), ("cpd_res50", (64, 65)), ("cpd_vgg16", (31, 36))])
def test_illegal_sizes(name, size):
    with pytest.raises(ValueError, match=f"{name} takes .*, not {size[0]}x{size[1]}; nearest: "):
        _shapes(name, size)


def _shapes(name, size):
    model = abstract_model(name, **NETWORKS[name].presets["small"])
    image = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    return {key: x.shape for key, x in nnx.eval_shape(lambda model, x: model.stages(x), model, image).items()}


@pytest.fixture(scope="module")
def original():
    """The stages of CPD-R with the recorded weights."""
    model = create_model("cpd_res50")
    fill_model(model, "cpd_res50")
    graph, state = nnx.split(model)
    return partial(jax.jit(lambda state, image: nnx.merge(graph, state).stages(image)), state)


@pytest.mark.parametrize("size", ["s96x96", "s90x62"])
def test_numbers_of_the_original(original, size):
    recording = Recording("CPD_ResNet")
    stages = original(recording[f"{size}.input"])
    errors = {key: recording.error(f"{size}.{key}", stages[TAPS[key]]) for key in recording.keys(size)}
    assert len(errors) >= 2
    assert max(errors.values()) < 1e-4, errors


def test_levels_of_vgg16():
    """RFB, decoder and attention are those of CPD-R; the levels are in no recording."""
    image = field((1, 3, 35, 50))
    published = recorded_shapes("CPD_VGG")
    arrays = {key: fill(key, shape) for key, shape in published.items() if key.startswith("vgg.")}
    model = create_model("cpd_vgg16")
    fill_model(model, "cpd_vgg16")
    for b in (1, 2):
        branch = [f"vgg.conv{x}" for x in ("1", "2", "3", f"4_{b}", f"5_{b}")]
        theirs = vgg_levels(arrays, branch, image, np.mean)
        levels = (*(getattr(model, f"E{x}") for x in (1, 2, 3)), getattr(model, f"E4_{b}"), getattr(model, f"E5_{b}"))
        ours = run_levels(levels, channels_last(image))
        for mine, original in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine.transpose(0, 3, 1, 2), original, rtol=0, atol=1e-5 * original.max())


def test_maps_on_vgg16_are_enlarged_between_pixel_centres():
    model = create_model("cpd_vgg16", **NETWORKS["cpd_vgg16"].presets["small"])
    image = channels_last(field((1, 3, 32, 48)))
    stages = model.stages(image)
    for b, name in enumerate(("attention", "logits"), start=1):
        expected = jax.image.resize(stages[f"decoder_{b}"], (1, 32, 48, 1), "bilinear")
        np.testing.assert_allclose(stages[name], expected, atol=1e-6)
    prediction = model(image)
    np.testing.assert_array_equal(prediction.logits, stages["logits"])
    np.testing.assert_array_equal(prediction.side_logits[0], stages["attention"])


def test_holistic_attention():
    """Its first kernel is the published one, and it weighs every channel alike."""
    attend, random = HolisticAttention(), np.random.default_rng(0)
    np.testing.assert_allclose(attend.gaussian_kernel[0, 0], np.load(fixture("CPD_gaussian_kernel.npy")), atol=1e-9)
    kernel = random.random((31, 31), np.float32)
    attend.gaussian_kernel[...] = jnp.asarray(kernel[None, None])
    maps, x = random.random((2, 12, 9), np.float32), random.standard_normal((2, 12, 9, 3), np.float32)
    expected = []
    for one in maps:
        blurred = signal.correlate2d(one, kernel, mode="same")
        expected.append(np.maximum((blurred - blurred.min()) / np.ptp(blurred), one))
    weighed = attend(jnp.asarray(maps[..., None]), jnp.asarray(x))
    np.testing.assert_allclose(weighed, x * np.stack(expected)[..., None], atol=1e-5)


@pytest.mark.parametrize("narrow", [False, True])
def test_initial_weights_beside_the_backbone_on_vgg16(narrow):
    model = create_model("cpd_vgg16", width=8, narrow_init=narrow)
    for layer, fan_in in ((model.RFB5_2.gather, 9 * 4 * 32), (model.decoder_1.up[4], 9 * 64)):
        np.testing.assert_allclose(layer.kernel[...].std(), 0.01 if narrow else (2 / fan_in) ** 0.5, rtol=0.02)
        assert not layer.bias[...].any()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_small_learns(name):
    assert loss_ratio(name) < 0.5
