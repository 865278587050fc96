"""A run whose step an earlier process has made does the same without tracing; anything else is traced."""

import math
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, run_command, tiny_config
from flax import nnx
from pocket import Pocket, pocket_config, pocket_flags

from afiu_jax.losses import LOSSES
from afiu_jax.networks import NETWORKS
from afiu_jax.training import ahead, kept_steps, loop, step_files
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
    (kept,) = (tmp_path / "steps").glob("*.step")
    whole = kept.read_bytes()
    for data in (b"", b"0" * 100, whole[:-1], whole[:40] + b"?" + whole[41:]):
        kept.write_bytes(data)
        assert step_files.read_step(kept) is None
    before = len(traced)
    assert train(tmp_path / "b", tmp_path / "steps") == losses
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


def test_a_step_whose_state_changes_its_type_is_traced_every_time(pocket, tmp_path, monkeypatch):
    class Changing(Pocket):
        """Its statistics are bfloat16 before the first step, float32 after it."""

        def __init__(self, *, rngs):
            super().__init__(rngs=rngs)
            self.seen = nnx.BatchStat(jnp.zeros(3, jnp.bfloat16))

        def __call__(self, images):
            if not self.norm.use_running_average:
                self.seen.set_value(images.mean((0, 1, 2)))
            return super().__call__(images)

    monkeypatch.setitem(NETWORKS, "changing", Changing)
    config = pocket_config(loss__name="bce", train__num_steps=3)
    config.model.name = "changing"
    for name in "ab":
        kept = KeptSteps(tmp_path / "steps", "configs/sod.py", math.inf)
        assert loop.train_and_evaluate(config, tmp_path / name, kept_steps=kept).step == 3
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


def test_what_the_compiler_is_told_decides_where_its_program_lies():
    found = place(resolve(tiny_config()))
    large = np.arange(20_000, dtype=np.float32)
    constants = large, np.where(large == 7_777, 0, large)
    texts = [jax.jit(lambda x, c=c: x * c).lower(large).as_text() for c in constants]
    places = {found.program_of(text, options) for text in texts for options in ({}, {"xla_disable_hlo_passes": "cse"})}
    assert len(places) == 4
    assert found.program_of(texts[0], {}) in places


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
    assert not list((tmp_path / "steps").glob("*.step"))
    train(tmp_path / "b", tmp_path / "steps")  # now it is loaded before
    assert len(list((tmp_path / "steps").glob("*.step"))) == 1
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
    kept = KeptSteps(folder, "configs/sod.py", math.inf).with_head_start(config, None)
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
    assert reading.path in (tmp_path / "steps").iterdir()


def test_a_wrong_guess_changes_nothing_and_is_left(traced, long_steps, tmp_path):
    train(tmp_path / "warm", tmp_path / "others")
    losses, _ = start(tmp_path / "a", tmp_path / "steps")
    (guess,) = (tmp_path / "steps").glob("*.guess")
    right = guess.read_text()
    assert start(tmp_path / "b", tmp_path / "steps", seed=1)[1] is None
    (other,) = set((tmp_path / "steps").glob("*.step")) - {tmp_path / "steps" / right}
    for i, wrong in enumerate((other.name.encode(), b"0" * 64 + b".step")):
        guess.write_bytes(wrong)
        again, reading = start(tmp_path / f"c{i}", tmp_path / "steps")
        assert again == losses
        assert reading.path.name == wrong.decode()
        assert reading.result() is None
        assert guess.read_text() == right
    for i, wrong in enumerate((b"", b"\xff", b"../steps/" + right.encode())):
        guess.write_bytes(wrong)
        assert start(tmp_path / f"d{i}", tmp_path / "steps") == (losses, None)


def test_nothing_is_read_early_where_it_could_not_be_used(traced, long_steps, tmp_path, monkeypatch):
    config = pocket_config(loss__name="bce", train__num_steps=2, logging__every_steps=1, seed=0)
    start(tmp_path / "a", tmp_path / "steps")
    kept = KeptSteps(tmp_path / "steps", "configs/sod.py", math.inf)
    assert kept.with_head_start(config, None).reading
    assert not kept.with_head_start(config, "runs/sod").reading
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert not kept.with_head_start(config, None).reading
    monkeypatch.undo()
    monkeypatch.setattr(kept_steps, "keep_freed_memory", lambda: False)  # as on a GPU
    assert not kept.with_head_start(config, None).reading


def test_short_runs_have_no_head_start(pocket, tmp_path):
    for name in "ab":
        assert start(tmp_path / name, tmp_path / "steps")[1] is None


@pytest.mark.parametrize("fails", ["serialize", "compress"])
def test_a_program_that_cannot_be_written_is_done_without(traced, tmp_path, monkeypatch, fails):
    def failing(*_):
        raise NotImplementedError("serialize_executables with const_args")

    losses = train(tmp_path / "a")
    part = step_files.serialize_executable if fails == "serialize" else step_files.zlib
    monkeypatch.setattr(part, fails, failing)
    monkeypatch.setattr(ahead, "_misses", lambda: nullcontext([1]))
    assert train(tmp_path / "b", tmp_path / "steps") == losses


def test_files_of_ended_processes_go(tmp_path):
    for name in ("a.step.1.part", "b.program.2.part"):
        (tmp_path / name).touch()
    os.utime(tmp_path / "a.step.1.part", (0, 0))
    assert step_files.write_file(tmp_path / "c.step", b"step")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.program.2.part", "c.step"]


def test_configuration_files_load_neither_jax_nor_networks_nor_scipy():
    code = (
        "import sys, configs.sod, configs.dbd, input_pipeline.sources\n"
        "configs.sod.get_config('demo'), configs.dbd.get_config('small')\n"
        "print(sorted({'jax', 'flax', 'scipy.fft', 'scipy.ndimage', 'afiu_jax.networks'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


LONG = """
import jax.numpy as jnp


class Long(Pocket):
    \"\"\"Weights enough for a step to be taken for a long one.\"\"\"

    def __init__(self, *, rngs):
        super().__init__(rngs=rngs)
        self.table = nnx.Param(jnp.ones(200_000))

    def __call__(self, images):
        return super().__call__(images * self.table.mean())


NETWORKS["long"], DEFAULT_LOSS["long"] = Long, "bce"
"""


def test_the_command_finds_what_it_has_made(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "tests")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    config, folder = tmp_path / "long.py", tmp_path / "cache" / "steps"
    config.write_text(Path("tests/pocket.py").read_text() + LONG)
    sizes = {"data__image_size": 256, "train__batch_size": 8, "eval__batch_size": 2}

    def losses(name):
        flags = pocket_flags(model__name="long", train__num_steps=2, logging__every_steps=1, **sizes)
        done = run_command("train.py", "--config", config, "--workdir", tmp_path / name, *flags)
        assert done.returncode == 0, done.stderr
        return [line["loss"] for line in read_metrics(tmp_path / name) if "loss" in line]

    def kept(kind):
        return {path: path.stat().st_ino for path in folder.glob(f"*.{kind}")}

    first = losses("a")
    made = [kept(kind) for kind in ("step", "program", "guess")]
    assert [len(files) for files in made] == [1, 1, 1]
    (program,) = made[1]
    assert losses("b") == first
    assert [kept(kind) for kind in ("step", "program")] == made[:2]  # not written again
    config.write_text(config.read_text() + "# changed\n")
    assert losses("c") == first
    assert (len(kept("step")), kept("program")) == (2, made[1])  # of the same program
    program.write_bytes(b"")
    assert losses("d") == first
    assert program.read_bytes() == b""  # XLA cannot write what JAX has kept
    assert [path.name for path in folder.glob("*.part")] == []
