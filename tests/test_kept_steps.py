"""A run whose step an earlier process has made does the same without tracing; anything else is traced."""

import math
import os
import pickle
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
from conftest import ROOT, run_command, tiny_config
from pocket import pocket_config, pocket_flags

from afiu_jax.losses import LOSSES
from afiu_jax.training import kept_steps, loop, step_files
from afiu_jax.training.config import resolve
from afiu_jax.training.kept_steps import KeptSteps, _own_files
from afiu_jax.training.logging import read_metrics
from afiu_jax.training.schema import load_config


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
    loop.train_and_evaluate(
        config, workdir, kept_steps=KeptSteps(folder, "configs/sod.py", math.inf) if folder else None
    )
    return [line["loss"] for line in read_metrics(workdir) if "loss" in line]


def test_a_run_like_an_earlier_one_is_the_same_and_not_traced(traced, tmp_path, monkeypatch):
    losses = train(tmp_path / "alone")
    train(tmp_path / "warm", tmp_path / "others")  # modules that the first run loads later are loaded from then on
    assert (len(set(losses)), len(traced)) == (3, 2)
    assert train(tmp_path / "first", tmp_path / "steps") == losses
    assert len(traced) == 3
    (kept,) = (tmp_path / "steps").iterdir()
    os.utime(kept, (0, 0))
    monkeypatch.setattr(loop, "make_train_step", None)  # nor is it set up
    assert train(tmp_path / "second", tmp_path / "steps") == losses
    assert len(traced) == 3
    assert list((tmp_path / "steps").iterdir()) == [kept]
    assert kept.stat().st_mtime > 0  # the last to make room


def test_another_configuration_is_traced(traced, tmp_path):
    train(tmp_path / "warm", tmp_path / "others")
    traced.clear()
    for i in range(2):
        train(tmp_path / f"a{i}", tmp_path / "steps")
        train(tmp_path / f"b{i}", tmp_path / "steps", train__optimizer="sgd")
    assert len(traced) == 2


def test_a_damaged_file_is_traced_and_written_again(traced, tmp_path):
    losses = train(tmp_path / "a", tmp_path / "steps")
    (kept,) = (tmp_path / "steps").iterdir()
    whole = kept.read_bytes()
    for i, data in enumerate((b"", b"0" * 100, whole[:-1], whole[:40] + b"?" + whole[41:])):
        kept.write_bytes(data)
        before = len(traced)
        assert train(tmp_path / f"b{i}", tmp_path / "steps") == losses
        assert len(traced) == before + 1
        assert step_files.read_step(kept)


def test_a_folder_that_cannot_be_made_is_done_without(traced, tmp_path):
    (tmp_path / "steps").touch()
    assert train(tmp_path / "a", tmp_path / "steps") == train(tmp_path / "b")


def test_what_jax_does_not_export_is_traced_every_time(traced, tmp_path, monkeypatch):
    seen, loss = [], LOSSES["bce"]

    def printing(*arguments):
        jax.debug.callback(seen.append, arguments[1].mean())
        return loss(*arguments)

    monkeypatch.setitem(LOSSES, "bce", printing)
    for name in "ab":
        train(tmp_path / name, tmp_path / "steps")
    jax.effects_barrier()
    assert len(seen) == 6
    assert not (tmp_path / "steps").exists()


def test_a_network_that_cannot_be_traced_says_so(pocket, tmp_path, monkeypatch):
    def broken(*_):
        raise ValueError("no such loss")

    monkeypatch.setitem(LOSSES, "bce", broken)
    with pytest.raises(ValueError, match="no such loss"):
        train(tmp_path / "run", tmp_path / "steps")


def place(config, config_file="configs/sod.py", **options):
    return KeptSteps(Path("steps"), str(config_file), **{"loaded": math.inf, **options}).find(config)


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
    train(tmp_path / "a", tmp_path / "steps")
    assert not (tmp_path / "steps").exists()
    train(tmp_path / "b", tmp_path / "steps")  # now it is loaded before
    assert len(list((tmp_path / "steps").iterdir())) == 1
    del sys.modules["late"]


@pytest.mark.parametrize("setting", [jax.debug_nans, jax.debug_infs, jax.disable_jit])
def test_whoever_looks_for_an_error_has_every_step_traced(setting):
    assert place(resolve(tiny_config()))
    with setting(True):
        assert place(resolve(tiny_config())) is None


def test_layouts_are_traced_every_time():
    assert place(resolve(tiny_config(train__layouts=True))) is None


def test_those_used_last_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(step_files, "_KEPT", 2)
    for name, time in (("a", 3), ("b", 1), ("c", 2)):
        (tmp_path / f"{name}.step").touch()
        os.utime(tmp_path / f"{name}.step", (time, time))
    assert step_files.write_file(tmp_path / "d.step", b"step")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.step", "d.step"]


@pytest.fixture
def long_steps(traced, monkeypatch):
    """Steps of tiny networks are taken for long ones, whose memory is kept."""
    for module, name, function in (
        (loop, "is_long_step", lambda *_: True),
        (loop, "keep_freed_memory", lambda: True),
        (loop, "meet_memory", lambda size: None),
        (kept_steps, "keep_freed_memory", lambda: True),
    ):
        monkeypatch.setattr(module, name, function)


def start(workdir, folder, seed=0):
    """The losses of a run that is given a head start, and the step that is read from its start on."""
    config = pocket_config(loss__name="bce", train__num_steps=2, logging__every_steps=1, seed=seed)
    kept = KeptSteps(folder, "configs/sod.py", math.inf).with_head_start(config)
    loop.train_and_evaluate(config, workdir, kept_steps=kept)
    return [line["loss"] for line in read_metrics(workdir) if "loss" in line], kept.reading


def test_the_step_of_a_long_run_is_read_from_its_start_on(traced, long_steps, tmp_path, monkeypatch):
    train(tmp_path / "warm", tmp_path / "others")
    losses, nothing = start(tmp_path / "a", tmp_path / "steps")
    assert nothing is None
    monkeypatch.setattr(kept_steps, "read_step", None)  # it need not be read a second time
    traced.clear()
    again, reading = start(tmp_path / "b", tmp_path / "steps")
    assert (again, traced) == (losses, [])
    assert {path.suffix for path in (tmp_path / "steps").iterdir()} == {".step", ".guess"}
    assert reading.path in (tmp_path / "steps").iterdir()


def test_a_wrong_guess_changes_nothing(traced, long_steps, tmp_path):
    train(tmp_path / "warm", tmp_path / "others")
    losses, _ = start(tmp_path / "a", tmp_path / "steps")
    assert start(tmp_path / "b", tmp_path / "steps", seed=1) != (losses, None)
    (guess, other) = sorted((tmp_path / "steps").glob("*.guess"), key=lambda path: path.stat().st_mtime)
    for wrong in (other.read_bytes(), b"", b"\xff", b"no.step"):
        guess.write_bytes(wrong)
        again, _ = start(tmp_path / f"c{len(list(tmp_path.iterdir()))}", tmp_path / "steps")
        assert again == losses
        assert guess.read_text() in [path.name for path in (tmp_path / "steps").glob("*.step")]
        assert guess.read_text() != other.read_text()


def test_short_runs_have_no_head_start(pocket, tmp_path):
    for name in "ab":
        assert start(tmp_path / name, tmp_path / "steps")[1] is None


def test_the_command_finds_what_it_has_made(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "tests")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    config = tmp_path / "pocket.py"
    config.write_text(Path("tests/pocket.py").read_text())
    folder = tmp_path / "cache" / "steps"

    def losses(name):
        flags = ["--config", config, "--workdir", tmp_path / name]
        done = run_command("train.py", *flags, *pocket_flags(train__num_steps=2, logging__every_steps=1))
        assert done.returncode == 0, done.stderr
        return [line["loss"] for line in read_metrics(tmp_path / name) if "loss" in line]

    first = losses("a")
    (kept,) = folder.iterdir()
    number = kept.stat().st_ino
    assert losses("b") == first
    assert list(folder.iterdir()) == [kept]
    assert kept.stat().st_ino == number  # not written again
    config.write_text(config.read_text() + "# changed\n")
    assert losses("c") == first
    (other,) = set(folder.iterdir()) - {kept}
    assert losses("d") == first
    # XLA cannot write the program that it has read for the third run, so that its trace is kept.
    assert [type(_steps_in(path)) for path in (kept, other)] == [tuple, bytes]


def _steps_in(path):
    """What a file holds: three parts of a program, or one of a trace."""
    data, *counts = pickle.loads(zlib.decompress(path.read_bytes()[32:]))
    return (data, *counts) if counts else data
