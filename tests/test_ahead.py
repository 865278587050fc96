"""The step that is compiled while the weights are drawn is the one that is called."""

import threading
from threading import Event, current_thread

import jax
import pytest
from conftest import tiny_config
from flax import nnx
from pocket import pocket_config

from afiu_jax.errors import UNSTOPPABLE, UserError
from afiu_jax.losses import LOSSES
from afiu_jax.training import loop
from afiu_jax.training.ahead import compiled_ahead
from afiu_jax.training.config import resolve
from afiu_jax.training.kept_steps import KeptSteps
from afiu_jax.training.state import TrainState

MADE = ("/jax/core/compile/jaxpr_to_mlir_module_duration", "/jax/core/compile/backend_compile_duration")


@pytest.mark.parametrize(
    ("flags", "is_kept"),
    [({}, False), ({}, True), pytest.param({"train__layouts": True}, False, marks=pytest.mark.slow)],
    ids=str,
)
def test_a_run_and_one_that_resumes_use_what_was_compiled_ahead(pocket, tmp_path, monkeypatch, flags, is_kept):
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
            config = pocket_config(train__num_steps=steps, loss__name="bce", **flags)
            kept = KeptSteps(tmp_path / "steps", "configs/sod.py") if is_kept else None
            loop.train_and_evaluate(config, tmp_path / "run", kept_steps=kept)
            assert set(traced) == {UNSTOPPABLE}
            assert made == [(event, UNSTOPPABLE) for event in MADE] * steps
    finally:
        jax.monitoring.clear_event_listeners()


def test_memory_for_gradients_and_kernels_is_met_meanwhile(pocket, tmp_path, monkeypatch):
    met = []
    monkeypatch.setattr(loop, "is_long_step", lambda *_: True)
    monkeypatch.setattr(loop, "keep_freed_memory", lambda: True)
    monkeypatch.setattr(loop, "meet_memory", met.append)
    for _ in range(2):  # the second run has nothing to do
        loop.train_and_evaluate(pocket_config(train__num_steps=1), tmp_path)
        assert met == [2 * 4 * (3 * 3 * 3 * 4 + 4 + 4 + 4 + 3 * 3 * 4 * 1 + 1)]


def test_an_error_in_the_step_is_told_once(pocket, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("no such loss")

    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    monkeypatch.setitem(LOSSES, "bce", broken)
    with pytest.raises(RuntimeError, match="no such loss"):
        loop.train_and_evaluate(pocket_config(train__num_steps=2, loss__name="bce"), tmp_path)
    assert not told


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError("wrong")])
def test_whoever_leaves_early_does_not_wait_for_the_compiler(error):
    begun, may_go_on = Event(), Event()

    def step(*_):
        raise AssertionError("nobody calls it")

    def lower(*_):
        begun.set()
        may_go_on.wait(60)

    step.lower = lower
    state = TrainState(jax.ShapeDtypeStruct((), "int32"), nnx.State({}), nnx.State({}), ())
    with pytest.raises((KeyboardInterrupt, UserError)), compiled_ahead(lambda: step, state, resolve(tiny_config())):
        assert begun.wait(60)
        raise error
    (thread,) = (thread for thread in threading.enumerate() if thread.name == UNSTOPPABLE)
    assert not thread.daemon  # else it would abort a process that ends as usual
    may_go_on.set()
    thread.join()


def test_wrong_backbone_weights_are_refused_before_the_compiler_starts(tmp_path, monkeypatch):
    (tmp_path / "weights.npz").write_bytes(b"")
    monkeypatch.setattr(loop, "compiled_ahead", None)
    config = tiny_config(model__backbone_weights=str(tmp_path / "weights.npz"))
    with pytest.raises(UserError, match=r"model\.backbone_weights"):
        loop.train_and_evaluate(config, tmp_path / "run")


def test_a_run_that_is_done_compiles_nothing(pocket, pocket_run, monkeypatch):
    monkeypatch.setattr(loop, "compiled_ahead", None)
    assert loop.train_and_evaluate(pocket_config(), pocket_run).step == 6
