"""A network of one's own, added as README's last section says, in every command that a network passes through."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny_config
from flax import nnx
from pocket import Pocket, pocket_config
from rich.console import Console

from afiu_jax import create_model, load_network
from afiu_jax.batch_norm import batch_norm
from afiu_jax.errors import UserError
from afiu_jax.evaluation import evaluate
from afiu_jax.export import export
from afiu_jax.inference import Predictor
from afiu_jax.layers import conv
from afiu_jax.losses import DEFAULT_LOSS, LOSSES
from afiu_jax.networks import NETWORKS, _plan, catalogue
from afiu_jax.networks.encoders import ENCODERS
from afiu_jax.networks.prediction import Prediction
from afiu_jax.networks.sizes import LegalSizes
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


class Foreign(nnx.Module):
    """Layers of Flax's own, and weights whose initial values its code says."""

    sizes, normalization = LegalSizes(multiple=2), "imagenet"
    presets: ClassVar = {}

    def __init__(self, width: int = 4, drop: float = 0.0, norm: str = "layer", *, rngs: nnx.Rngs):
        self.stem = nnx.Conv(3, width, (3, 3), rngs=rngs)
        self.depthwise = nnx.Conv(width, width, (3, 3), feature_group_count=width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs) if norm == "batch" else nnx.LayerNorm(width, rngs=rngs)
        if norm == "narrow":
            self.norm = nnx.LayerNorm(width, param_dtype=jnp.bfloat16, rngs=rngs)
        if norm == "keys":
            self.keys = rngs.fork()
        if norm == "numbers":
            self.rates = [float(rate) for rate in jnp.linspace(0, 1, 3)]
        self.gamma = nnx.Param(jnp.full((width,), 0.5))
        self.head = nnx.Linear(width, 1, bias_init=nnx.initializers.constant(-2.0), rngs=rngs)
        if drop:
            self.dropout = nnx.Dropout(drop, rngs=None if norm == "dropout without keys" else rngs)

    def __call__(self, images):
        x = self.norm(self.depthwise(self.stem(images)))
        return Prediction(self.head(nnx.relu(self.gamma * x)))


@pytest.fixture
def foreign(monkeypatch):
    monkeypatch.setitem(NETWORKS, "foreign", Foreign)
    monkeypatch.setitem(DEFAULT_LOSS, "foreign", "bce")

    def config(options=(), **overrides):
        config = tiny_config(**{"model__name": "foreign", **overrides})
        config.model.options = dict(options)
        return config

    return config


def test_layers_of_flax_begin_as_their_code_says(foreign, tmp_path):
    direct, built = Foreign(rngs=nnx.Rngs(7)), create_model("foreign", rngs=nnx.Rngs(7))
    np.testing.assert_array_equal(built.stem.kernel[...], direct.stem.kernel[...])
    by_default = create_model("foreign").stem.kernel[...]
    np.testing.assert_array_equal(by_default, create_model("foreign", rngs=nnx.Rngs(0)).stem.kernel[...])
    assert (built.gamma[...] == 0.5).all()
    assert (built.head.bias[...] == -2.0).all()
    assert train_and_evaluate(foreign({"drop": 0}), tmp_path).step == 6


class Tied(Foreign):
    """One with a part that it has under two names."""

    def __init__(self, *, rngs: nnx.Rngs):
        super().__init__(rngs=rngs)
        self.again = self.stem


def test_a_part_that_a_network_has_twice_is_one(foreign, tmp_path, monkeypatch):
    monkeypatch.setitem(NETWORKS, "tied", Tied)
    monkeypatch.setitem(DEFAULT_LOSS, "tied", "bce")
    assert train_and_evaluate(foreign(model__name="tied", train__num_steps=1), tmp_path).step == 1


class Written(nnx.Module):
    """Layers of this package's, into which the constructor writes other values than they declare."""

    sizes, normalization = LegalSizes(multiple=2), "imagenet"
    presets: ClassVar = {}

    def __init__(self, place: str = "", *, rngs: nnx.Rngs):
        self.conv = conv(3, 4, 3, rngs=rngs)
        self.norm = batch_norm(4, rngs=rngs)
        self.head = conv(4, 1, 1, rngs=rngs)
        if place == "scale":
            self.norm.scale[...] = jnp.zeros(4)
        if place == "bias":
            self.head.bias.set_value(jnp.full(1, -4.0))
        if place == "kernel":
            self.head.kernel = nnx.Param(jnp.zeros((1, 1, 4, 1)))
        if place == "copied":
            self.head.kernel = self.head.kernel.replace(jnp.zeros((1, 1, 4, 1)))
        if place == "twin":
            self.twin = nnx.clone(self.head)


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("scale", lambda network: (network.norm.scale[...] == 0).all()),
        ("bias", lambda network: (network.head.bias[...] == -4).all()),
        ("kernel", lambda network: (network.head.kernel[...] == 0).all()),
        ("copied", lambda network: (network.head.kernel[...] == 0).all()),
        ("twin", lambda network: (network.twin.kernel[...] == network.head.kernel[...]).all()),
        ("nothing", lambda network: (network.head.kernel[...] != 0).all()),
    ],
)
def test_what_a_constructor_writes_into_layers_stays(monkeypatch, place, found):
    monkeypatch.setitem(NETWORKS, "written", Written)
    network = create_model("written", place=place)
    assert _plan(NETWORKS["written"], "written", place=place).declared == (place == "nothing")
    assert found(network)
    assert (network.conv.kernel[...] != 0).any()


class Shared(nnx.Module):
    """Two wide convolutions of one kernel, a fixed array, and options of every kind."""

    sizes, normalization = LegalSizes(multiple=2), "imagenet"
    presets: ClassVar = {}

    def __init__(
        self,
        stages: tuple = ((128, 1), (128, 2)),
        drop: float | None = None,
        kind: str | None = None,
        array: str = "",
        channels: int = 1,
        *,
        rngs: nnx.Rngs,
    ):
        self.stem = conv(3, stages[0][0], 3, rngs=rngs)
        self.one, self.two = (conv(width, width, 3, rngs=rngs) for width, _ in stages)
        self.two.kernel = self.one.kernel
        self.head = conv(stages[1][0], channels, 1, rngs=rngs)
        values = np.float32([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
        if array:
            make = {"jax": jnp.asarray, "numpy": np.asarray, "kept": nnx.BatchStat, "several": lambda x: (jnp.sum(x),)}
            self.laplacian = make[array](values)

    def __call__(self, images):
        x = nnx.relu(self.two(nnx.relu(self.one(self.stem(images)))))
        return Prediction(self.head(x))


@pytest.fixture
def shared(monkeypatch):
    monkeypatch.setitem(NETWORKS, "shared", Shared)
    monkeypatch.setitem(DEFAULT_LOSS, "shared", "bce")

    def config(**options):
        config = tiny_config(model__name="shared", data__image_size=8, train__num_steps=1)
        config.model.options = options
        return config

    return config


def test_a_kernel_that_two_convolutions_share_is_used_by_both(shared, tmp_path):
    options = {"drop": 0.5, "kind": "any", "array": "kept", "stages": [[128, 1], [128, 3]]}
    train_and_evaluate(shared(**options), tmp_path)
    network, predictor = load_network(tmp_path), Predictor(tmp_path, batch_size=1)
    np.testing.assert_array_equal(network.laplacian[1], [1, -4, 1])
    images = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
    np.testing.assert_allclose(
        nnx.sigmoid(network(jnp.asarray(images)).logits)[..., 0], predictor._run(images), atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"array": "jax"}, "the network's laplacian is an array: make it in __call__, or make it an nnx.BatchStat"),
        ({"array": "numpy"}, "the network's laplacian is an array"),
        ({"array": "several"}, "the network's laplacian is an array"),
        ({"channels": 2}, r"Shared returns logits of shape \(2, 8, 8, 2\) for 2 images: they must be \[b, h, w, 1\]"),
    ],
    ids=str,
)
def test_parts_and_maps_that_no_run_can_use_are_refused_before_it(shared, options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        train_and_evaluate(shared(**options), tmp_path / "run")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_the_package_is_filled_at_once(name):
    assert _plan(NETWORKS[name], name).declared


def test_what_training_does_not_know_is_refused_in_one_line(foreign, tmp_path, monkeypatch):
    def refused(config):
        with pytest.raises(UserError) as caught:
            train_and_evaluate(config, tmp_path / "run")
        assert not (tmp_path / "run" / "checkpoints" / "2").exists()
        return str(caught.value)

    assert "give train.milestones, epochs, for it" in refused(foreign(train__schedule="step"))
    assert "for train.schedule=step, or none" in refused(foreign(train__milestones=(3,)))
    assert "nnx.BatchNorm in norm: make it with afiu_jax.batch_norm.batch_norm" in refused(foreign({"norm": "batch"}))
    for norm in ("layer", "dropout without keys"):
        assert "foreign has an nnx.Dropout in dropout: make it" in refused(foreign({"drop": 0.1, "norm": norm}))
    assert "foreign has an Rng" in refused(foreign({"norm": "keys"}))
    assert "the constructor of foreign looks at numbers of JAX" in refused(foreign({"norm": "numbers"}))
    assert "biases and scales are bfloat16 and float32" in refused(foreign({"norm": "narrow"}))
    assert "what the encoder of foreign is stands nowhere" in refused(foreign(train__freeze="encoder"))
    monkeypatch.setitem(ENCODERS, "foreign", ("stem", "downs"))
    for change in ({"train__freeze": "encoder"}, {"train__layerwise_decay": 0.5}):
        assert "no module of foreign is called 'downs'" in refused(foreign(**change))
    monkeypatch.setitem(LOSSES, "each", lambda prediction, mask: (prediction.logits - mask).mean((1, 2, 3)))
    assert "the loss gives an array of shape (2,), not a number" in refused(foreign(loss__name="each"))


class Bare(nnx.Module):
    """What one forgets: sizes, normalization, presets, a loss, and a ``Prediction``."""

    def __init__(self, *, rngs: nnx.Rngs | None = None):
        self.head = nnx.Linear(3, 1, rngs=rngs or nnx.Rngs(0))

    def __call__(self, images):
        return self.head(images)


def test_what_a_network_lacks_is_said_in_one_line(foreign, tmp_path, monkeypatch):
    def refused(**overrides):
        with pytest.raises(UserError) as caught:
            train_and_evaluate(foreign(model__name="bare", **overrides), tmp_path / "run")
        return str(caught.value)

    monkeypatch.setitem(NETWORKS, "bare", Bare)
    for attribute in ("sizes", "normalization"):
        assert f"network bare has no attribute {attribute}" in refused()
        setattr(Bare, attribute, getattr(Foreign, attribute))
    assert "bare has no preset 'small' (it has none)" in refused(model__preset="small")
    assert "bare has no loss of its own" in refused()
    assert "Bare does not return an afiu_jax.networks.Prediction" in refused(loss__name="bce")


def test_a_trained_network_as_a_module(pocket_run):
    network, predictor = load_network(pocket_run), Predictor(pocket_run, batch_size=1)
    assert isinstance(network, Pocket)
    images = np.random.default_rng(0).random((1, 64, 64, 3), np.float32)
    maps = nnx.sigmoid(network(jnp.asarray(images)).logits)[..., 0]
    np.testing.assert_allclose(maps, predictor._run(images), atol=1e-5)
    maps_of = nnx.jit(lambda network, images: nnx.sigmoid(network(images).logits)[..., 0])
    focus = maps_of(load_network("u2netp-dbd"), jnp.asarray(images))  # what it was trained on
    np.testing.assert_allclose(1 - focus, Predictor("u2netp-dbd", batch_size=1)._run(images), atol=1e-4)
    with pytest.raises(UserError, match="batch_size is 0"):
        Predictor(pocket_run, batch_size=0)


def test_epochs_count_where_steps_are_0(tmp_path, capsys):
    config = pocket_config(train__num_steps=0, train__num_epochs=1, train__batch_size=4)
    assert train_and_evaluate(config, tmp_path).step == 3  # of 12 images
    assert "length: 3 steps, 1.0 epochs (train.num_epochs)" in capsys.readouterr().out
