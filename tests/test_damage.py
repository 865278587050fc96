"""Damaged checkpoints: named, refused where one was asked for, and passed over when a run resumes."""

import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest
from faults import cut, empty, flip
from pocket import pocket_config
from test_training import assert_same_run

from afiu_jax.errors import UserError
from afiu_jax.training.checkpoint import load_model, whole_steps
from afiu_jax.training.checksums import NAME, damage, seal
from afiu_jax.training.loop import train_and_evaluate

pytestmark = pytest.mark.usefixtures("pocket")


def remove(path):
    shutil.rmtree(path.parent)


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


@pytest.fixture
def copy(pocket_run, tmp_path):
    """The run's folder, with its whole checkpoints of steps 4 and 6."""
    return shutil.copytree(pocket_run, tmp_path / "run")


def test_every_checkpoint_is_sealed(pocket_run):
    folders = [path for path in (pocket_run / "checkpoints").iterdir() if path.name.isdigit()]
    assert len(folders) >= 2
    for folder in folders:
        assert (folder / NAME).exists()
        assert damage(folder) is None


@pytest.mark.parametrize("item", ["model", "optimizer", "data", "meta"])
@pytest.mark.parametrize("fault", [cut, flip, remove, empty])
def test_damage_to_any_item_is_found_and_named(copy, fault, item):
    folder = copy / "checkpoints" / "6"
    fault(largest(folder / item))
    assert damage(folder).startswith(f"{item}/")
    others = [name for name in ("model", "optimizer", "data", "meta") if name != item]
    assert damage(folder, *others) is None


@pytest.mark.parametrize("item", ["model", "meta"])
@pytest.mark.parametrize("fault", [cut, flip, empty])
def test_a_damaged_network_is_refused_where_it_is_asked_for(copy, tmp_path, fault, item):
    folder = copy / "checkpoints" / "6"
    fault(largest(folder / item))
    with pytest.raises(UserError, match=rf"checkpoints/6 cannot be read \({item}/.*it is damaged") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="it is damaged"):
        train_and_evaluate(pocket_config(), tmp_path / "new", str(folder))
    assert not (tmp_path / "new").exists()


def test_without_checksums_a_whole_checkpoint_is_read_as_before(copy):
    folder = copy / "checkpoints" / "6"
    expected = load_model(folder).params
    (folder / NAME).unlink()
    found = load_model(folder).params
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    empty(largest(folder / "model"))
    with pytest.raises(UserError, match="it is damaged"):
        load_model(folder)


def test_a_file_of_checksums_that_is_broken_itself_is_damage(copy):
    folder = copy / "checkpoints" / "6"
    (folder / NAME).write_text('{"model/')
    assert damage(folder) == f"{NAME} is no JSON"


def test_a_resumed_run_passes_over_what_is_damaged_and_ends_the_same(pocket_run, copy, capsys):
    flip(largest(copy / "checkpoints" / "6" / "optimizer"))
    assert train_and_evaluate(pocket_config(), copy).step == 6
    said = capsys.readouterr().out
    assert f"the checkpoint {copy / 'checkpoints' / '6'} cannot be read (optimizer/" in said
    assert f"moved to {copy / 'damaged' / '6'}" in said
    assert "resumed at step 4 of 6" in said
    assert damage(copy / "damaged" / "6").startswith("optimizer/")
    assert_same_run(pocket_run, copy)


def test_what_is_whole_is_neither_called_damaged_nor_moved(copy, monkeypatch):
    """One reading that fails: of a network that has changed, or as a disk may fail for a moment."""
    steps, real = whole_steps(copy), ocp.CheckpointManager.restore

    def fail(*arguments, **options):
        monkeypatch.setattr(ocp.CheckpointManager, "restore", real)
        raise ValueError("tree structures do not match")

    monkeypatch.setattr(ocp.CheckpointManager, "restore", fail)
    with pytest.raises(
        UserError, match=r"6 cannot be read \(tree structures .*\), though its files are whole: try again"
    ):
        train_and_evaluate(pocket_config(), copy)
    assert whole_steps(copy) == steps
    assert not (copy / "damaged").exists()
    assert train_and_evaluate(pocket_config(), copy).step == 6


def test_a_run_of_which_all_checkpoints_are_damaged_is_left_as_it_is(copy):
    steps = whole_steps(copy)
    for step in steps:
        cut(largest(copy / "checkpoints" / str(step) / "optimizer"))
    with pytest.raises(UserError, match=rf"checkpoints/{steps[-1]} cannot be read"):
        train_and_evaluate(pocket_config(), copy)
    assert whole_steps(copy) == steps
    assert not (copy / "damaged").exists()


def test_sealing_is_of_every_file_but_its_own(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a").write_text("1")
    for _ in range(2):
        seal(tmp_path)
    assert damage(tmp_path) is None
    (tmp_path / "model" / "a").write_text("2")
    assert damage(tmp_path) == "model/a is not what was written"
