"""Networks of one's own that use Flax's transforms, or write variables when they are called, go through a whole run."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny_config
from flax import nnx

from afiu_jax import create_model
from afiu_jax.dropout import ChannelDropout
from afiu_jax.export import export
from afiu_jax.inference import Predictor, load_network
from afiu_jax.interop.layout import Entry
from afiu_jax.losses import DEFAULT_LOSS
from afiu_jax.networks import NETWORKS, Prediction
from afiu_jax.networks.program import multiply_adds
from afiu_jax.networks.sizes import LegalSizes
from afiu_jax.training.loop import train_and_evaluate
from afiu_jax.training.overview import parameter_table
from afiu_jax.training.state import train_mode


class Lifted(nnx.Module):
    """A stem, a body of some kind, and a head."""

    sizes, normalization = LegalSizes(multiple=1), "imagenet"
    presets: ClassVar = {}

    def __init__(self, kind: str = "remat", *, rngs: nnx.Rngs):
        self.kind = kind
        self.stem = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.gain = nnx.Param(jnp.full((4,), 0.5))  # of no type of its own
        if kind == "scan":
            make = nnx.vmap(lambda rngs: nnx.Conv(4, 4, (3, 3), rngs=rngs), axis_size=2)
            self.body = make(nnx.Rngs(params=rngs.params()).split(2))
        elif kind == "spectral norm":
            self.body = nnx.SpectralNorm(nnx.Conv(4, 4, (3, 3), rngs=rngs), rngs=rngs)
        else:
            self.body = nnx.Conv(4, 4, (3, 3), rngs=rngs)
        self.calls = nnx.BatchStat(jnp.zeros(()))
        self.head = nnx.Conv(4, 1, (1, 1), rngs=rngs)

    def __call__(self, images):
        x = self.stem(images)
        if self.kind == "scan":
            x = nnx.scan(lambda x, layer: nnx.relu(layer(x)), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.body)
        elif self.kind == "remat":
            x = nnx.remat(lambda layer, x: nnx.relu(layer(x)))(self.body, x)
        else:
            x = self.body(x)
            self.calls[...] += 1
        return Prediction(self.head(self.gain * x))


@pytest.fixture
def lifted(monkeypatch):
    monkeypatch.setitem(NETWORKS, "lifted", Lifted)
    monkeypatch.setitem(DEFAULT_LOSS, "lifted", "bce")

    def config(kind: str):
        config = tiny_config(model__name="lifted", data__image_size=16, train__num_steps=2, eval__every_steps=1)
        config.model.options = {"kind": kind}
        return config

    return config


@pytest.mark.parametrize("kind", ["remat", "scan", "spectral norm", "counts its calls"])
def test_it_trains_validates_and_predicts(lifted, tmp_path, kind):
    assert train_and_evaluate(lifted(kind), tmp_path).step == 2
    images = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32)
    maps = nnx.sigmoid(load_network(tmp_path)(jnp.asarray(images)).logits)[..., 0]
    np.testing.assert_allclose(Predictor(tmp_path, batch_size=4)._run(images), maps, atol=1e-5)
    export(tmp_path, tmp_path / "network.stablehlo", to="stablehlo")
    assert multiply_adds(create_model("lifted", kind=kind), 16) >= 16 * 16 * 3 * 3 * 3 * 4


def test_arrays_of_no_type_get_one(lifted):
    lifted("remat")
    gain = create_model("lifted").gain[...]
    assert gain.dtype == jnp.float32 and not gain.weak_type and (gain == 0.5).all()


def test_a_name_that_is_given_anew_makes_the_new_network(lifted, monkeypatch):
    lifted("remat")
    assert create_model("lifted", kind="remat").stem.kernel_size == (3, 3)

    class Other(Lifted):
        def __init__(self, kind: str = "remat", *, rngs: nnx.Rngs):
            super().__init__(kind, rngs=rngs)
            self.stem = nnx.Conv(3, 4, (1, 1), rngs=rngs)

    monkeypatch.setitem(NETWORKS, "lifted", Other)
    assert create_model("lifted", kind="remat").stem.kernel_size == (1, 1)


def test_an_option_may_be_called_network(lifted, monkeypatch):
    class Named(Lifted):
        def __init__(self, network: str = "a", *, rngs: nnx.Rngs):
            super().__init__(rngs=rngs)
            self.network = network

    monkeypatch.setitem(NETWORKS, "lifted", Named)
    assert create_model("lifted", network="b").network == "b"


class Listed(nnx.Module):
    """A network whose parts lie in plain containers and outside of modules."""

    def __init__(self, rngs: nnx.Rngs):
        self.encoder = nnx.data([nnx.Conv(3, 3, (3, 3), rngs=rngs), nnx.BatchNorm(3, rngs=rngs)])
        self.gain = nnx.Param(jnp.ones(3))
        self.decoder = nnx.BatchNorm(3, rngs=rngs)


def test_what_is_frozen_in_a_list_keeps_its_statistics():
    model = Listed(nnx.Rngs(0))
    train_mode(model, lambda name: name == "encoder")
    assert model.encoder[1].use_running_average and not model.decoder.use_running_average


def test_the_table_has_a_row_for_all_that_is_trained():
    table = parameter_table(Listed(nnx.Rngs(0)), "listed")
    assert list(table.columns[0].cells) == ["encoder", "gain", "decoder"]
    assert list(table.columns[1].cells) == ["90", "3", "6"]


@pytest.mark.parametrize("shape", [(2, 6), (2, 5, 6), (2, 4, 5, 6)], ids=str)
def test_channels_are_dropped_of_tokens_and_maps(shape):
    dropped = ChannelDropout(0.5)(jnp.ones(shape))
    assert dropped.shape == shape
    by_channel = np.asarray(dropped).reshape(2, -1, 6)
    assert (by_channel == by_channel[:, :1]).all() and {0.0, 2.0} == set(by_channel.ravel().tolist())


def test_linear_layers_and_whole_numbers_have_pytorchs_layout_and_come_back():
    weights = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    for value, axes in ((weights, (1, 0)), (np.arange(3), (0,)), (np.float32(2), ())):
        path = "layer.kernel" if value.ndim == 2 else "layer.order"
        entry = Entry("key", path, nnx.Variable(jnp.asarray(value)))
        published = entry.read()
        np.testing.assert_array_equal(published, value.transpose(axes))
        assert entry.shape == published.shape
        entry.write(published)
        np.testing.assert_array_equal(entry.variable[...], value)
        assert entry.variable.dtype == jnp.asarray(value).dtype
