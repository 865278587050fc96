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


@pytest.fixture
def network(monkeypatch):
    """A network on so many processors, and a list of the parts that each thread computes."""

    def on(processors):
        model, calls = OneConvolution(), []
        monkeypatch.setattr(module, "processors", lambda: processors)

        def noted(graph, **options):
            program = predict_program(graph, **options)

            def run(*state_and_images):
                calls.append((threading.current_thread(), len(state_and_images[-1])))
                return program(*state_and_images)

            return run

        monkeypatch.setattr(module, "predict_program", noted)
        predict = make_predict_step(graph_of(model, training=False))
        state = nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)
        return lambda images: predict(*state, images), calls

    return on


def images_of(count, side=8):
    return np.random.default_rng(0).standard_normal((count, side, side + 2, 3), np.float32)


@pytest.mark.parametrize(
    ("processors", "count", "parts"),
    [(2, 8, [4, 4]), (2, 2, [1, 1]), (4, 6, [2, 2, 2]), (16, 8, [1] * 8), (2, 3, [3]), (1, 8, [8]), (2, 1, [1])],
)
def test_equal_parts_of_a_batch_give_its_maps(network, processors, count, parts):
    images = images_of(count)
    expected = network(1)[0](images)
    predict, calls = network(processors)
    for given in (images, jnp.asarray(images), images):
        np.testing.assert_allclose(predict(given), expected, rtol=1e-6)
    assert [size for _, size in calls] == 3 * parts


def test_parts_of_a_size_that_is_compiled_are_computed_in_as_many_threads(network):
    predict, calls = network(4)
    predict(images_of(4))
    assert {thread for thread, _ in calls} == {threading.main_thread()}  # compiled once, not four times
    calls.clear()
    predict(images_of(4))
    threads = {thread for thread, _ in calls}
    assert threading.main_thread() in threads and 1 < len(threads) <= 4


def test_parts_are_computed_at_the_same_time(monkeypatch):
    monkeypatch.setattr(module, "processors", lambda: 2)
    together = threading.Barrier(2, timeout=30)

    def program(images):
        together.wait()  # broken, and raises, where no other thread comes
        return images[..., :1]

    images = images_of(2)
    np.testing.assert_array_equal(module._in_threads(program, {(1, 8, 10, 3)}, images), images[..., :1])


def test_large_images_are_not_shared(network, monkeypatch):
    monkeypatch.setattr(module, "_SMALL", 8 * 10)
    predict, calls = network(2)
    predict(images_of(4))
    predict(images_of(4, side=9))
    assert [size for _, size in calls] == [2, 2, 4]


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
            module._in_threads(program, {(1, 8, 10, 3)}, images)
