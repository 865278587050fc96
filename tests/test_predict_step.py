"""Batches in use that a CPU's processors share: the same maps, in threads, and which batches are not shared."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from afiu_jax.layers import conv
from afiu_jax.networks.prediction import Prediction
from afiu_jax.training import predict_step as module
from afiu_jax.training.predict_step import make_predict_step, predict_program
from afiu_jax.training.state import graph_of

pytestmark = pytest.mark.skipif(
    jax.default_backend() != "cpu" or jax.device_count() > 1, reason="only a single CPU device is shared"
)


class OneConvolution(nnx.Module):
    """The smallest network."""

    def __init__(self):
        self.head = conv(3, 1, 3, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return Prediction(self.head(x))


def network():
    """Its graph and its state."""
    model = OneConvolution()
    return graph_of(model, training=False), (nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat))


@pytest.fixture
def predictor(monkeypatch):
    """Makes maps on so many processors, and a list of how many images each call of the program had."""

    def on(processors):
        graph, state = network()
        sizes = []
        monkeypatch.setattr(module, "processors", lambda: processors)

        def noted(graph, **options):
            program = predict_program(graph, **options)
            return lambda *given: sizes.append(len(given[-1])) or program(*given)

        monkeypatch.setattr(module, "predict_program", noted)
        predict = make_predict_step(graph)
        return lambda images: predict(*state, images), sizes

    return on


def images_of(count, side=8):
    return np.random.default_rng(0).standard_normal((count, side, side + 2, 3), np.float32)


@pytest.mark.parametrize(
    ("processors", "count", "parts"),
    [(2, 8, [4, 4]), (2, 2, [1, 1]), (4, 6, [2, 2, 2]), (16, 8, [2] * 4), (2, 3, [3]), (1, 8, [8]), (2, 1, [1])],
)
def test_equal_parts_of_a_batch_give_its_maps(predictor, processors, count, parts):
    images = images_of(count)
    graph, state = network()
    expected = predict_program(graph)(*state, images)
    predict, sizes = predictor(processors)
    for given in (images, jnp.asarray(images)):
        np.testing.assert_allclose(predict(given), expected, rtol=1e-6)
    assert sizes == 2 * parts


def test_threads_compile_a_program_once(monkeypatch):
    monkeypatch.setattr(module, "processors", lambda: 4)
    graph, state = network()
    program, traced = predict_program(graph), []
    noted = jax.jit(lambda *given: traced.append(given) or program.__wrapped__(*given))
    for _ in range(2):
        module._in_threads(noted, *state, images_of(4))
    assert len(traced) == noted._cache_size() == 1


@pytest.mark.parametrize(("processors", "threads"), [(2, 2), (4, 4), (128, 4)])
def test_parts_are_computed_at_the_same_time(monkeypatch, processors, threads):
    monkeypatch.setattr(module, "processors", lambda: processors)
    together = threading.Barrier(threads, timeout=30)

    def program(images):
        together.wait()  # broken, and raises, where too few threads come
        return images[..., :1]

    images = images_of(4)
    np.testing.assert_array_equal(module._in_threads(program, images), images[..., :1])


def test_several_devices_share_a_batch_in_their_own_way(predictor, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    predict, sizes = predictor(2)
    predict(images_of(4))
    assert sizes == [4]


def test_maps_are_inverted_when_told():
    graph, state = network()
    maps, inverted = (make_predict_step(graph, inverted=on)(*state, images_of(2)) for on in (False, True))
    np.testing.assert_allclose(inverted, 1 - maps, atol=1e-6)


@pytest.mark.parametrize(("count", "at_once"), [(2, None), (3, 1), (4, 2), (6, 2)])
def test_a_program_takes_two_images_through_the_network_together(count, at_once):
    graph, state = network()
    traced = str(jax.make_jaxpr(predict_program(graph).__wrapped__)(*state, images_of(count)))
    assert ("scan" in traced) == (at_once is not None)
    assert at_once is None or f"f32[{count // at_once},{at_once},8,10,3]" in traced


def test_large_images_are_not_shared(predictor):
    predict, sizes = predictor(2)
    for side in (390, 400):  # by 392 and by 402
        predict(images_of(2, side))
    assert sizes == [1, 1, 2]


def test_an_error_of_any_part_is_raised(monkeypatch):
    monkeypatch.setattr(module, "processors", lambda: 2)

    def program(images):
        if images.any():
            raise ValueError("not black")
        return images[..., :1]

    for n in (0, 1):
        images = np.zeros((2, 8, 10, 3), np.float32)
        images[n] = 1
        with pytest.raises(ValueError, match="not black"):
            module._in_threads(program, images)
