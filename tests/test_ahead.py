"""The step that is lowered while the weights are drawn is the one that is called."""

import threading
from threading import current_thread

import jax
import pytest
from conftest import tiny_config

from afiu_jax.losses import LOSSES
from afiu_jax.training import loop

LOWERING = "/jax/core/compile/jaxpr_to_mlir_module_duration"


@pytest.mark.parametrize("flags", [{}, pytest.param({"train__layouts": True}, marks=pytest.mark.slow)], ids=str)
def test_a_run_and_one_that_resumes_use_what_was_lowered_ahead(tmp_path, monkeypatch, flags):
    traced, lowered = [], []
    loss = LOSSES["bce"]

    def counted(*arguments):
        traced.append(current_thread().name)
        return loss(*arguments)

    def note(event, seconds, fun_name="", **_):
        if event == LOWERING and "train_step" in fun_name:
            lowered.append(current_thread().name)

    monkeypatch.setitem(LOSSES, "bce", counted)
    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        for steps in (1, 2):
            loop.train_and_evaluate(tiny_config(train__num_steps=steps, loss__name="bce", **flags), tmp_path)
            assert set(traced) == {"lowered_ahead"}
            assert lowered == ["lowered_ahead"] * steps
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
