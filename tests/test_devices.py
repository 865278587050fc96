"""Several devices, gradient accumulation, and steps that neither wait for the host nor compile twice."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import ROOT, tiny_config
from flax import nnx
from pocket import Pocket, pocket_config

from afiu_jax.batch_norm import batch_norm
from afiu_jax.convolution import cpu, winograd
from afiu_jax.errors import UserError
from afiu_jax.layers import conv
from afiu_jax.networks.prediction import Prediction
from afiu_jax.training import loop
from afiu_jax.training.checkpoint import load_model
from afiu_jax.training.config import resolve
from afiu_jax.training.devices import check_batch, on_every_device, replicated, shared_equally
from afiu_jax.training.layouts import in_own_layouts
from afiu_jax.training.predict_step import predict_program
from afiu_jax.training.state import create_state, flatten, graph_of
from afiu_jax.training.step import make_train_step


def curve(monkeypatch, devices, *options):
    """Losses of twenty steps in a process with so many CPU devices."""
    monkeypatch.setenv("XLA_FLAGS", f"--xla_force_host_platform_device_count={devices}")
    command = [sys.executable, str(ROOT / "tests" / "curve.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["devices"], found["programs"], found["parted"], found["given_away"]) == (devices, 1, 0, 0)
    return found["losses"]


@pytest.mark.parametrize(
    "options",
    [
        ("--network=pocket",),
        pytest.param(("--network=afiu",), marks=pytest.mark.slow),
        pytest.param(("--network=afiu", "--winograd"), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_eight_devices_have_the_loss_curve_of_one(monkeypatch, options):
    one, eight = (curve(monkeypatch, devices, *options) for devices in (1, 8))
    assert len(eight) == 20
    np.testing.assert_allclose(eight, one, rtol=1e-5)
    assert len(set(one)) == 20


def test_a_batch_that_the_devices_cannot_share_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    check_batch({"train": {"batch_size": 16, "accumulate": 2}})
    with pytest.raises(UserError, match=r"train.batch_size is 10; it must be a multiple of the 8 devices: set .*8 or"):
        check_batch({"train": {"batch_size": 10, "accumulate": 1}})
    with pytest.raises(UserError, match=r"multiple of the 8 devices times train.accumulate=2: set it to 16 or 32$"):
        check_batch({"train": {"batch_size": 24, "accumulate": 2}})


def test_several_processes_place_a_state_without_asking_each_other(monkeypatch):
    """What would gather every array from all of them is not called."""
    state = create_state(Pocket(rngs=nnx.Rngs(0)), optax.adam(1e-3))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "device_put", None)
    placed = on_every_device(state)
    assert all(leaf.sharding == replicated() for leaf in jax.tree.leaves(placed))
    assert jax.tree.map(np.array_equal, placed, state) == jax.tree.map(lambda _: True, state)


def test_batches_of_validation_are_filled_up_for_all_devices(monkeypatch):
    for devices, sizes in ((1, {1: 1, 8: 8}), (8, {1: 8, 8: 8, 9: 16}), (3, {8: 9, 9: 9}), (64, {8: 64})):
        monkeypatch.setattr(jax, "device_count", lambda devices=devices: devices)
        assert {size: shared_equally(size) for size in sizes} == sizes


def test_batches_that_parts_and_groups_cannot_share_are_refused():
    for key in ("accumulate", "norm_groups"):
        with pytest.raises(UserError, match=f"train.{key} is 0; it must be at least 1"):
            resolve(tiny_config(**{f"train__{key}": 0}))
        with pytest.raises(UserError, match=r"train.batch_size is 2; it must be a multiple of .*: set it to 3"):
            resolve(tiny_config(**{f"train__{key}": 3}))


class Small(nnx.Module):
    """Two convolutions and a normalisation, which keeps its statistics if ``frozen``."""

    def __init__(self, frozen: bool = False, kernel: int = 3, dtype: str = "float32", dilation: int = 1):
        options = {"rngs": nnx.Rngs(0), "dtype": dtype}
        self.a, self.norm = conv(3, 4, kernel, dilation=dilation, **options), batch_norm(4, **options)
        self.b = conv(4, 1, 3, **options)
        self.norm.frozen = frozen

    def __call__(self, x):
        return Prediction(self.b(nnx.relu(self.norm(self.a(x)))))


def small_step(*, frozen=False, norm_groups=1, **options):
    """The state after three steps of ``Small`` on batches of 12, and the reports."""
    model, optimizer = Small(frozen), optax.adam(1e-2)
    loss = lambda prediction, masks: jnp.square(prediction.logits - masks).mean()  # noqa: E731
    graph = graph_of(model, training=True, norm_groups=norm_groups)
    step = make_train_step(graph, loss, optimizer, **options)
    if options.get("layouts"):
        step = in_own_layouts(step)
    state, reports, random = create_state(model, optimizer), [], np.random.default_rng(0)
    for _ in range(3):
        images, masks = (jnp.asarray(random.random((12, 8, 8, c)), jnp.float32) for c in (3, 1))
        state, report = step(state, images, masks)
        reports.append(report)
    return state, reports


def test_accumulated_gradients_are_those_of_the_large_batch():
    (whole, reports), (parts, others) = small_step(frozen=True), small_step(frozen=True, accumulate=4)
    for name, value in flatten(whole.params).items():
        np.testing.assert_allclose(flatten(parts.params)[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(np.asarray(others), np.asarray(reports), rtol=1e-5)
    assert int(parts.step) == 3


@pytest.mark.parametrize(
    "option", [{"remat": True}, {"deterministic": True}, {"layouts": True}, {"tf32": False}], ids=str
)
def test_options_of_the_program_leave_its_result_as_it_is(option):
    (plain, reports), (other, others) = small_step(), small_step(**option)
    kept = {name: value for name, value in flatten(plain.params).items() if name != "a.bias"}
    assert len(kept) == 5  # before a normalisation a bias has no gradient, and Adam makes steps of its rounding
    for name, value in kept.items():
        np.testing.assert_allclose(flatten(other.params)[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(np.asarray(others), np.asarray(reports), rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"accumulate": 3}, {"remat": True}], ids=str)
def test_winograds_filtering_leaves_a_step_as_it_is(monkeypatch, options):
    plain, reports = small_step(frozen=True, **options)
    monkeypatch.setattr(winograd, "_WIDE", 1)
    monkeypatch.setattr(cpu, "_LARGE", 1)
    other, others = small_step(frozen=True, **options)
    for name, value in flatten(plain.params).items():
        np.testing.assert_allclose(flatten(other.params)[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(np.asarray(others), np.asarray(reports), rtol=1e-5)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="only a CPU's compiler is told to")
def test_barriers_stay_in_the_program_until_operations_are_fused(monkeypatch):
    # XLA says nothing of a pass that it does not know, so that another name of it would go unnoticed.
    monkeypatch.setattr(winograd, "_WIDE", 1)
    monkeypatch.setattr(cpu, "_LARGE", 1)
    model, optimizer = Small(), optax.adam(1e-2)
    images, masks = (jnp.zeros((4, 8, 8, c)) for c in (3, 1))
    loss = lambda prediction, masks: jnp.square(prediction.logits - masks).mean()  # noqa: E731
    step = make_train_step(graph_of(model, training=True), loss, optimizer)
    maps = predict_program(graph_of(model, training=False))
    state = create_state(model, optimizer)
    for program in (step.lower(state, images, masks), maps.lower(state.params, state.batch_stats, images)):
        assert "opt-barrier" in program.compile().as_text()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_maps_do_not_depend_on_how_many_images_there_are(count):
    model = Small()
    predict = predict_program(graph_of(model, training=False))
    state = nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)
    images = jnp.asarray(np.random.default_rng(0).standard_normal((count, 8, 6, 3)), jnp.float32)
    maps = predict(*state, images)
    assert maps.shape == (count, 8, 6, 1)
    for image, found in zip(images, maps, strict=True):
        np.testing.assert_allclose(predict(*state, image[None])[0], found, rtol=1e-5)


@pytest.mark.parametrize(("kernel", "repeated"), [(3, 0), (1, 1)])  # 1×1, to more channels: repeated
@pytest.mark.parametrize(
    ("dtype", "platform", "dilation", "primitive"),
    [
        ("float32", "gpu", 1, "conv_general_dilated"),
        ("float32", "gpu", 2, "conv_general_dilated"),
        ("float32", "cpu", 1, "dot_general"),
        ("bfloat16", "gpu", 1, "conv_general_dilated"),
    ],
)
def test_remat_repeats_what_lies_between_convolutions_and_cheap_ones(
    dtype, platform, dilation, primitive, kernel, repeated
):
    counts = []
    for remat in (False, True):
        model, optimizer = Small(kernel=kernel, dtype=dtype, dilation=dilation), optax.adam(1e-2)
        loss = lambda prediction, masks: jnp.square(prediction.logits - masks).mean()  # noqa: E731
        step = make_train_step(graph_of(model, training=True, platform=platform), loss, optimizer, remat=remat)
        images, masks = (jnp.zeros((4, 8, 8, c)) for c in (3, 1))
        leaves, tree = jax.tree.flatten((create_state(model, optimizer), images, masks))
        step = step.__wrapped__  # a program with options of the compiler cannot be part of another
        flat = lambda *leaves, step=step, tree=tree: jax.tree.leaves(step(*jax.tree.unflatten(tree, leaves)))  # noqa: E731
        program = str(jax.make_jaxpr(flat)(*leaves))
        names = (primitive, "rsqrt", "reduce_sum", "reduce")  # sums are the last where they are loops
        counts.append([program.count(f"{name}[") + program.count(f" {name} ") for name in names])
    (convolutions, norms, *sums), (convolutions_again, norms_again, *sums_again) = counts
    assert convolutions_again == convolutions + repeated > repeated
    assert norms_again > norms
    assert sums_again == sums != [0, 0]  # statistics are kept


def test_accumulation_normalises_one_part_at_a_time():
    """A part's statistics are its own, so that the loss is another than the large batch's."""
    (_, whole), (_, parts) = small_step(), small_step(accumulate=4)
    assert abs(parts[0].loss / whole[0].loss - 1) > 1e-4


def test_groups_of_a_batch_are_normalised_apart():
    x = jnp.asarray(np.random.default_rng(0).normal(2, 3, (6, 4, 4, 5)), jnp.float32)
    norm, alone = batch_norm(5, rngs=nnx.Rngs(0)), batch_norm(5, rngs=nnx.Rngs(0))
    norm.groups = 3
    expected = np.concatenate([alone(x[i : i + 2]) for i in (0, 2, 4)])
    np.testing.assert_allclose(norm(x), expected, rtol=1e-5, atol=1e-6)
    groups = np.asarray(x).reshape(3, -1, 5)
    np.testing.assert_allclose(norm.mean[...], 0.1 * groups.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * groups.var(1).mean(0), rtol=1e-5)


def test_a_run_that_accumulates_resumes_exactly(pocket, tmp_path):
    options = {"train__batch_size": 4, "train__accumulate": 2, "eval__every_steps": 6}
    loop.train_and_evaluate(pocket_config(**options), tmp_path / "whole")
    loop.train_and_evaluate(pocket_config(**options, train__num_steps=4), tmp_path / "parts")
    loop.train_and_evaluate(pocket_config(**options), tmp_path / "parts")
    whole, parts = (load_model(tmp_path / name / "checkpoints" / "6") for name in ("whole", "parts"))
    for name, value in {**whole.params, **whole.batch_stats}.items():
        np.testing.assert_array_equal({**parts.params, **parts.batch_stats}[name], value, err_msg=name)
    with pytest.raises(UserError, match=r"train.accumulate: 2 -> 1"):
        loop.train_and_evaluate(pocket_config(**{**options, "train__accumulate": 1}), tmp_path / "parts")


@pytest.mark.parametrize("config", [pocket_config, pytest.param(tiny_config, marks=pytest.mark.slow)])
def test_a_step_neither_transfers_nor_compiles_again(config, pocket, tmp_path, monkeypatch):
    """A whole run, with its validations and checkpoints, under a guard against transfers inside the step."""
    compiled, real = [], loop.make_train_step
    programs = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration, **_: programs.append(event) if event == COMPILATION else None
    )

    def guarded(*args, **kwargs):
        step = real(*args, **kwargs)

        def watched(*arguments):
            before = len(programs)
            with jax.transfer_guard("disallow"):
                result = step(*arguments)
            compiled.append(len(programs) - before)
            return result

        watched.lower = step.lower
        return watched

    monkeypatch.setattr(loop, "make_train_step", guarded)
    loop.train_and_evaluate(config(), tmp_path)
    loop.train_and_evaluate(config(train__num_steps=8), tmp_path)  # a restored state looks like a fresh one
    jax.monitoring.clear_event_listeners()
    assert programs  # of both runs' steps, too, while their weights were drawn
    assert compiled == [0] * 8


def test_the_guard_and_the_counter_notice():
    """What the test above rests on: a host's array is a transfer, another shape another program."""
    double = jax.jit(lambda x: 2 * x)
    with pytest.raises(Exception, match="host-to-device transfer"), jax.transfer_guard("disallow"):
        double(np.ones(3))
    programs = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: programs.append(event))
    double(jnp.ones(7))
    jax.monitoring.clear_event_listeners()
    assert COMPILATION in programs


COMPILATION = "/jax/core/compile/backend_compile_duration"
