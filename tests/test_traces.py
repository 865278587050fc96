"""A run whose step an earlier process has traced does the same without tracing; anything else is traced."""

import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
from conftest import ROOT, run_command, tiny_config
from pocket import pocket_config, pocket_flags

from afiu_jax.losses import LOSSES
from afiu_jax.training import loop, traces
from afiu_jax.training.config import load_config, resolve
from afiu_jax.training.logging import read_metrics
from afiu_jax.training.traces import Traces, _own_files


@pytest.fixture
def traced(pocket, monkeypatch):
    """A loss, and a list that grows whenever it is traced."""
    calls, loss = [], LOSSES["bce"]

    def counted(*arguments):
        calls.append(1)
        return loss(*arguments)

    monkeypatch.setitem(LOSSES, "bce", counted)
    return calls


def train(workdir, folder=None, **overrides):
    """The losses of a run."""
    config = pocket_config(loss__name="bce", train__num_steps=3, logging__every_steps=1, **overrides)
    loop.train_and_evaluate(config, workdir, traces=Traces(folder, "configs/sod.py", math.inf) if folder else None)
    return [line["loss"] for line in read_metrics(workdir) if "loss" in line]


def test_a_run_like_an_earlier_one_is_the_same_and_not_traced(traced, tmp_path, monkeypatch):
    losses = train(tmp_path / "alone")
    train(tmp_path / "warm", tmp_path / "others")  # modules that the first run loads later are loaded from then on
    assert (len(set(losses)), len(traced)) == (3, 2)
    assert train(tmp_path / "first", tmp_path / "traces") == losses
    assert len(traced) == 3
    (kept,) = (tmp_path / "traces").iterdir()
    os.utime(kept, (0, 0))
    monkeypatch.setattr(loop, "make_train_step", None)  # nor is it set up
    assert train(tmp_path / "second", tmp_path / "traces") == losses
    assert len(traced) == 3
    assert list((tmp_path / "traces").iterdir()) == [kept]
    assert kept.stat().st_mtime > 0  # the last to make room


def test_another_configuration_is_traced(traced, tmp_path):
    train(tmp_path / "warm", tmp_path / "others")
    traced.clear()
    for i in range(2):
        train(tmp_path / f"a{i}", tmp_path / "traces")
        train(tmp_path / f"b{i}", tmp_path / "traces", train__optimizer="sgd")
    assert len(traced) == 2


def test_a_damaged_file_is_traced_and_written_again(traced, tmp_path):
    losses = train(tmp_path / "a", tmp_path / "traces")
    (kept,) = (tmp_path / "traces").iterdir()
    whole = kept.read_bytes()
    for i, data in enumerate((b"", b"0" * 100, whole[:-1], whole[:40] + b"?" + whole[41:])):
        kept.write_bytes(data)
        before = len(traced)
        assert train(tmp_path / f"b{i}", tmp_path / "traces") == losses
        assert len(traced) == before + 1
        assert len(kept.read_bytes()) == len(whole)


def test_a_folder_that_cannot_be_made_is_done_without(traced, tmp_path):
    (tmp_path / "traces").touch()
    assert train(tmp_path / "a", tmp_path / "traces") == train(tmp_path / "b")


def test_what_jax_does_not_export_is_traced_every_time(traced, tmp_path, monkeypatch):
    seen, loss = [], LOSSES["bce"]

    def printing(*arguments):
        jax.debug.callback(seen.append, arguments[1].mean())
        return loss(*arguments)

    monkeypatch.setitem(LOSSES, "bce", printing)
    for name in "ab":
        train(tmp_path / name, tmp_path / "traces")
    jax.effects_barrier()
    assert len(seen) == 6
    assert not (tmp_path / "traces").exists()


def test_a_network_that_cannot_be_traced_says_so(pocket, tmp_path, monkeypatch):
    def broken(*_):
        raise ValueError("no such loss")

    monkeypatch.setitem(LOSSES, "bce", broken)
    with pytest.raises(ValueError, match="no such loss"):
        train(tmp_path / "run", tmp_path / "traces")


def place(config, config_file="configs/sod.py", **options):
    return Traces(Path("traces"), str(config_file), **{"loaded": math.inf, **options}).find(config)


def test_a_step_has_another_place_when_anything_it_was_traced_from_changes(tmp_path, monkeypatch):
    config, source, found = resolve(tiny_config()), tmp_path / "config.py", []
    assert place(config) == place(config)
    found.append(place(config))
    found.append(place({**config, "seed": 1}))
    for text in ("a = 1\n", "a = 2\n"):
        source.write_text(text)
        found.append(place(config, source))
    found.append(place(config, f"{source}:variant"))
    with jax.default_matmul_precision("float32"):
        found.append(place(config))
    # Of what is installed, size and time count.
    package = tmp_path / "site-packages" / "package.py"
    package.parent.mkdir()
    package.write_text("")
    monkeypatch.setitem(sys.modules, "package", SimpleNamespace(__file__=str(package)))
    monkeypatch.setitem(sys.modules, "odd", SimpleNamespace(__file__=package))  # not a name
    for time in (0, 1):
        os.utime(package, (time, time))
        found.append(place(config))
    assert len({place.path for place in found}) == len(found)


def test_configurations_that_others_are_made_of_count():
    config = load_config("zoo/srm")
    assert config.model.name == "srm"
    assert ROOT / "configs" / "zoo" / "srm.py" in _own_files(Path("own.py"))


def test_a_module_that_changed_after_it_may_have_been_read_has_every_step_traced(tmp_path, monkeypatch):
    module = tmp_path / "module.py"
    module.write_text("")
    os.utime(module, (0, 0))  # as "rsync -a" brings it
    monkeypatch.setitem(sys.modules, "module", SimpleNamespace(__file__=str(module)))
    for seconds, kept in ((-1, False), (1, True)):
        found = place(resolve(tiny_config()), loaded=module.stat().st_ctime + seconds)
        assert (found is not None) == kept


def test_a_module_that_is_first_loaded_while_tracing_has_every_step_traced(traced, tmp_path, monkeypatch):
    (tmp_path / "late.py").write_text("SCALE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    loss = LOSSES["bce"]

    def importing(*arguments):
        from late import SCALE

        return SCALE * loss(*arguments)

    monkeypatch.setitem(LOSSES, "bce", importing)
    train(tmp_path / "a", tmp_path / "traces")
    assert not (tmp_path / "traces").exists()
    train(tmp_path / "b", tmp_path / "traces")  # now it is loaded before
    assert len(list((tmp_path / "traces").iterdir())) == 1
    del sys.modules["late"]


@pytest.mark.parametrize("setting", [jax.debug_nans, jax.debug_infs, jax.disable_jit])
def test_whoever_looks_for_an_error_has_every_step_traced(setting):
    assert place(resolve(tiny_config()))
    with setting(True):
        assert place(resolve(tiny_config())) is None


def test_layouts_are_traced_every_time():
    assert place(resolve(tiny_config(train__layouts=True))) is None


def test_those_used_last_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(traces, "_KEPT", 2)
    for name, time in (("a", 3), ("b", 1), ("c", 2)):
        (tmp_path / f"{name}.step").touch()
        os.utime(tmp_path / f"{name}.step", (time, time))
    traces._write(tmp_path / "d.step", bytearray(b"trace"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.step", "d.step"]


def test_the_command_finds_what_it_has_traced(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "tests")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    config = tmp_path / "pocket.py"
    config.write_text(Path("tests/pocket.py").read_text())

    def losses(name):
        flags = ["--config", config, "--workdir", tmp_path / name]
        done = run_command("train.py", *flags, *pocket_flags(train__num_steps=2, logging__every_steps=1))
        assert done.returncode == 0, done.stderr
        return [line["loss"] for line in read_metrics(tmp_path / name) if "loss" in line]

    first = losses("a")
    (kept,) = (tmp_path / "cache" / "traces").iterdir()
    number = kept.stat().st_ino
    assert losses("b") == first
    assert list((tmp_path / "cache" / "traces").iterdir()) == [kept]
    assert kept.stat().st_ino == number  # not written again
    config.write_text(config.read_text() + "# changed\n")
    assert losses("c") == first
    assert len(list((tmp_path / "cache" / "traces").iterdir())) == 2
