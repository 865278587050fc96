"""The step that is compiled while the weights are drawn is the one that is called."""

import threading
from threading import Event, Thread, Timer, current_thread

import jax
import pytest
from conftest import tiny_config
from flax import nnx

from afiu_jax.losses import LOSSES
from afiu_jax.training import loop
from afiu_jax.training.ahead import compiled_ahead
from afiu_jax.training.config import resolve
from afiu_jax.training.state import TrainState

MADE = ("/jax/core/compile/jaxpr_to_mlir_module_duration", "/jax/core/compile/backend_compile_duration")


@pytest.mark.parametrize("flags", [{}, pytest.param({"train__layouts": True}, marks=pytest.mark.slow)], ids=str)
def test_a_run_and_one_that_resumes_use_what_was_compiled_ahead(tmp_path, monkeypatch, flags):
    traced, made = [], []
    loss = LOSSES["bce"]

    def counted(*arguments):
        traced.append(current_thread().name)
        return loss(*arguments)

    def note(event, seconds, fun_name="", **_):
        if event in MADE and "train_step" in fun_name:
            made.append((event, current_thread().name))

    monkeypatch.setitem(LOSSES, "bce", counted)
    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        for steps in (1, 2):
            loop.train_and_evaluate(tiny_config(train__num_steps=steps, loss__name="bce", **flags), tmp_path)
            assert set(traced) == {"compiled_ahead"}
            assert made == [(event, "compiled_ahead") for event in MADE] * steps
    finally:
        jax.monitoring.clear_event_listeners()


def test_an_error_in_the_step_is_told_once_by_the_call(tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("no such loss")

    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    monkeypatch.setitem(LOSSES, "bce", broken)
    with pytest.raises(RuntimeError, match="no such loss"):
        loop.train_and_evaluate(tiny_config(train__num_steps=2, loss__name="bce"), tmp_path)
    assert not told


def threads_ahead() -> list[Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "compiled_ahead"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_ctrl_c_leaves_at_once_and_an_error_when_the_compiler_is_done(error):
    begun, may_go_on = Event(), Event()

    def step(*_):
        raise AssertionError("nobody calls it")

    def lower(*_):
        begun.set()
        may_go_on.wait(60)

    step.lower = lower
    state = TrainState(jax.ShapeDtypeStruct((), "int32"), nnx.State({}), nnx.State({}), ())
    with pytest.raises(error), compiled_ahead(step, state, resolve(tiny_config())):
        assert begun.wait(60)
        if error is not KeyboardInterrupt:
            Timer(0.2, may_go_on.set).start()
        raise error
    assert bool(threads_ahead()) == (error is KeyboardInterrupt)
    may_go_on.set()
    for thread in threads_ahead():
        thread.join()
