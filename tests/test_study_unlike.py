"""What keeps a study from comparing unlike things: other recipes, other data, other photos."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import tiny_config
from PIL import Image
from studies import IMAGES, scored_maps, tiny_afiu, tiny_grid, tiny_study

from afiu_jax.errors import UserError
from afiu_jax.study import command
from afiu_jax.study.cells import read_cell, save_scores
from afiu_jax.study.config import benchmark, network, read_study
from afiu_jax.study.grid import make_grid
from afiu_jax.study.page import write_study
from afiu_jax.study.results import collect
from afiu_jax.study.scheduler import is_done
from afiu_jax.study.worker import PRIOR
from afiu_jax.training.config import differences, resolve
from afiu_jax.training.schema import load_config
from input_pipeline.scenes import Scenes
from input_pipeline.sources import Spec


def test_a_folder_of_another_study_is_refused_and_one_may_grow(half_done):
    command._check_folder(half_done)
    study = {"seeds": (0, 1, 2), "starts": ("scratch", "sod", "sod-l2sp")}
    grown = tiny_grid(half_done.folder, **study, networks={"afiu": tiny_afiu(), "basnet": network()})
    command._check_folder(grown)
    assert {read_cell(grown, job).status for job in grown.cells} == {"done", "not run"}
    longer = tiny_config("dbd", task__positive="blur", train__num_steps=12)
    with pytest.raises(
        UserError, match=r"afiu/scratch-seed0 was run with another configuration \(train.num_steps: 6 -> 12"
    ):
        command._check_folder(tiny_grid(half_done.folder, dbd=longer))
    other = {"scenes": benchmark("scenes", split="test[4:8]")}
    with pytest.raises(UserError, match="was scored on other data under the name scenes"):
        command._check_folder(tiny_grid(half_done.folder, tests=other))


def test_what_one_says_of_the_papers_study_reaches_every_network(tmp_path):
    """Else its networks would be trained unlike each other; and without changes each has its own recipe."""
    study = load_config("studies/table2")
    plain = make_grid(read_study(study), tmp_path)
    for job in plain.cells:
        if job.start == "scratch" and job.network != "afiu":
            assert differences(resolve(load_config(f"zoo/{job.network}", "dbd")), job.config, ("seed",)) == []
    study.dbd.train.num_steps, study.dbd.data.train.path = 1000, "elsewhere"
    study.dbd.data.horizontal_flip = 0.5
    for job in make_grid(read_study(study), tmp_path).cells:
        data = job.config["data"]
        assert (job.config["train"]["num_steps"], data["train"]["path"], data["horizontal_flip"]) == (
            *(1000, "elsewhere", 0.5),
        ), job.name


def test_generated_data_of_two_folders_is_not_taken_for_one(tmp_path):
    tests = {name: benchmark("bokeh", path=f"/data/{name}/val") for name in ("msra10k", "ecssd")}
    with pytest.raises(UserError, match=r"bokeh of folder /data/.*/val and .*/val would be .*: rename one of them"):
        tiny_grid(tmp_path, tests=tests)
    same = {"a": tests["ecssd"], "b": {**tests["ecssd"], "path": "/data/./ecssd/val/"}}
    assert len(tiny_grid(tmp_path, tests=same).tests) == 2


def test_scores_of_a_run_whose_checkpoints_are_gone_are_not_taken_for_another_recipe_s(half_done):
    for job in half_done.cells:
        shutil.rmtree(half_done.workdir(job) / "checkpoints", ignore_errors=True)
    longer = tiny_config("dbd", task__positive="blur", train__num_steps=12)
    with pytest.raises(UserError, match="was run with another configuration"):
        command._check_folder(tiny_grid(half_done.folder, dbd=longer))


def test_scored_cells_without_checkpoints_are_done_and_pretrainings_are_not(half_done):
    for job in (*half_done.pretrainings, *half_done.cells):
        shutil.rmtree(half_done.workdir(job) / "checkpoints", ignore_errors=True)
    done = {job.name for job in (*half_done.pretrainings, *half_done.cells) if is_done(half_done, job)}
    assert done == {f"afiu/{start}-seed{seed}" for start in ("scratch", "sod") for seed in (0, 1)}
    cells = [read_cell(half_done, job) for job in half_done.cells]
    assert {cell.job.name for cell in cells if cell.status == "done"} == done


def test_the_prior_of_a_done_cell_may_be_deleted_but_not_be_another(half_done, monkeypatch):
    """Its scores would be shown below the recipe of a SOD run that it has never seen."""
    for job in half_done.cells:
        if job.start == "sod":
            shutil.copy(half_done.workdir(job.needs) / "config.json", half_done.workdir(job) / PRIOR)
    for job in half_done.pretrainings:
        shutil.rmtree(half_done.workdir(job))
    monkeypatch.setattr(command, "_run", lambda grid, todo, *_: pytest.fail(f"{todo} are done"))
    study = {"seeds": (0, 1), "starts": ("scratch", "sod", "sod-focus-positive")}
    command.run_study(tiny_study(**study), half_done.folder, ["afiu/sod-seed*"])
    longer = tiny_config("sod", train__num_steps=12)
    with pytest.raises(UserError, match=r"sod-seed0 was run with another .*\(sod: train.num_steps: 6 -> 12"):
        command.run_study(tiny_study(**study, sod=longer), half_done.folder)


def test_cells_of_more_and_of_fewer_photos_are_not_compared(half_done):
    """The data of one name were prepared again in between."""
    job = next(job for job in half_done.cells if job.name == "afiu/sod-seed1")
    file = half_done.workdir(job) / "config.json"
    file.write_text(file.read_text().replace('"records": 12', '"records": 11'))
    with pytest.raises(UserError, match=r"sod-seed1 was trained on 11 records and .*scratch-seed0 on 12 of the same"):
        command._check_folder(half_done)


@pytest.mark.parametrize(
    ("mask", "told"),
    [(lambda m: 255 - m, "look inverted"), (lambda m: m // 3, "nowhere reach 128")],
    ids=["white", "grey"],
)
def test_odd_masks_are_told_before_anything_is_trained(mask, told, half_done, tmp_path):
    scenes = Scenes("blur", split="test", size=96)
    for part in ("images", "masks"):
        (tmp_path / "own" / part).mkdir(parents=True)
    for record in (scenes[i] for i in range(12)):
        Image.fromarray(record["image"]).save(tmp_path / "own" / "images" / f"{record['id']}.png")
        Image.fromarray(mask(record["mask"])).save(tmp_path / "own" / "masks" / f"{record['id']}.png")
    tests = {"own": benchmark("folder", path=str(tmp_path / "own"), white="blur")}
    grid = tiny_grid(tmp_path / "other", tests=tests)
    (line,) = command._check_data(grid, grid.cells)
    assert told in line


def test_scores_of_other_photos_are_not_averaged(half_done):
    job = next(job for job in half_done.cells if job.name == "afiu/sod-seed1")
    scored = scored_maps(1, 0.2)
    fewer = replace(scored, pictures=scored.pictures[:-1], images=IMAGES - 1)
    save_scores(half_done.workdir(job), "scenes", half_done.tests["scenes"].spec, fewer, step=4)
    with pytest.raises(UserError, match=r"afiu/sod-seed1 was scored on 3 photos of scenes, .* on 4, and not"):
        collect(half_done)


def test_scores_on_a_folder_that_is_still_there_are_not_those_of_another(half_done, tmp_path):
    """Two folders of one name; only what has moved is the same data elsewhere."""
    first, second = (tmp_path / part / "photos" for part in ("cuhk", "dut"))
    first.mkdir(parents=True)
    job = next(job for job in half_done.cells if job.name == "afiu/scratch-seed0")
    save_scores(half_done.workdir(job), "own", Spec("folder", str(first), white="blur"), scored_maps(1, 0.2), step=4)

    def check(folder: Path) -> None:
        tests = {"own": benchmark("folder", path=str(folder), white="blur")}
        command._check_folder(tiny_grid(half_done.folder, tests=tests))

    check(first)
    with pytest.raises(
        UserError, match=r"was scored on own in .*cuhk/photos, which is still there, not in .*dut/photos"
    ):
        check(second)
    first.parent.rename(second.parent)
    check(second)


def test_training_photos_elsewhere_are_told_once(half_done, tmp_path):
    """They may be a copy on a faster disk, made half-way."""
    elsewhere = {"data__train__name": "folder", "data__train__path": str(tmp_path / "copy")}
    stages = {"sod": tiny_config(**elsewhere), "dbd": tiny_config("dbd", task__positive="blur", **elsewhere)}
    for job in (*half_done.pretrainings, *half_done.cells):
        if (file := half_done.workdir(job) / "config.json").exists():
            saved = json.loads(file.read_text())
            saved["data"]["train"] = {**resolve(stages["dbd"])["data"]["train"], "path": str(tmp_path)}
            file.write_text(json.dumps(saved))
    (line,) = command._check_folder(tiny_grid(half_done.folder, **stages))
    assert line.startswith(
        f"warning: data.train.path: {tmp_path} -> {tmp_path / 'copy'}, and the old one is still there"
    )


def test_photos_that_have_changed_are_not_shown_under_old_names(half_done):
    for data in half_done.data:
        data.write()
    folder = Path(half_done.tests["scenes"].spec.path)
    for part in ("images", "masks"):
        first = min((folder / part).iterdir())
        first.with_name("aaa.png").write_bytes(first.read_bytes())
    page = write_study(collect(half_done), "afiu study").read_text(encoding="utf-8")
    assert "The photos of scenes cannot be shown" in page
    assert "has changed since it was scored" in page
