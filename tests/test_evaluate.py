"""``afiu evaluate``: maps on disk and networks, with everything that is odd about the files said aloud."""

import json
import re
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import rewrite_config, run_command, run_here
from PIL import ExifTags, Image
from test_commands import refusal, refused

from afiu_jax.cli import _part
from afiu_jax.commands.evaluate import score_checkpoint, with_radius_of
from afiu_jax.commands.report import write_report
from afiu_jax.errors import UserError
from afiu_jax.evaluation import evaluate, evaluate_folder, score_batches
from afiu_jax.inference import Predictor
from afiu_jax.mapfolder import MapFolder
from afiu_jax.maps import map_writer
from afiu_jax.scoring import Scorer
from input_pipeline.sources import Spec, describe, describe_drawn, open_source

KEYS = {
    *("mae", "max_f", "max_f_mean_curve", "mean_f", "adaptive_f", "f_at_half", "weighted_f", "s_measure"),
    *("e_measure_max", "e_measure_mean", "e_measure_adaptive", "iou", "accuracy", "images"),
}
AFIU = ("-m", "afiu_jax.cli", "evaluate")


def blob(height: int = 24, width: int = 30) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[4:15, 6:20] = 255
    return mask


@pytest.fixture
def folders(tmp_path):
    """Maps and masks of three photos, as good as a blurred truth."""
    for name in ("maps", "masks"):
        (tmp_path / name).mkdir()
    for i, stem in enumerate("abc"):
        mask = np.roll(blob(), 2 * i, axis=1)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{stem}.png")
        Image.fromarray((mask * 0.7 + 10 * i + 20).astype(np.uint8)).save(tmp_path / "maps" / f"{stem}.png")
    return tmp_path


def scored(root, **options):
    folder = MapFolder(root / "maps", root / "masks", **options)
    result = evaluate_folder(folder, name="maps")
    return result, folder.warnings


def test_one_folder_gives_one_flat_object_and_says_what_the_numbers_mean(folders):
    files = {kind: folders / "out" / f"table.{kind}" for kind in ("json", "csv", "markdown", "latex")}
    flags = [part for kind, file in files.items() for part in (f"--{kind}", file)]
    done = run_command(*AFIU, "--predictions", folders / "maps", "--masks", folders / "masks", *flags)
    assert done.returncode == 0, done.stderr
    scores = json.loads(files["json"].read_text())
    assert set(scores) >= KEYS
    assert all(isinstance(value, (int, float)) for value in scores.values())
    assert scores["images"] == 3
    for part in (f"{scores['mae']:.4f}", f"{scores['max_f']:.4f}", "β² = 0.3", "255 is the target", "map ≥ t",
                 "from 128 on", "3 images scored, 0 maps resized, 0 left out"):  # fmt: skip
        assert part in done.stdout, part
    assert repr(scores["mae"]) in files["csv"].read_text()
    assert f"{scores['mae']:.4f}" in files["markdown"].read_text()
    assert "toprule" in files["latex"].read_text()
    assert done.stderr == ""


def test_several_folders_give_one_table_with_the_best_marked(folders):
    (folders / "worse").mkdir()
    for path in (folders / "maps").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(folders / "worse" / path.name)
    command = ("evaluate", "--predictions", folders / "maps", "--predictions", folders / "worse", "--masks")
    done = run_here(*command, folders / "masks", "--json", folders / "s.json", "--latex", folders / "s.tex")
    assert done.returncode == 0, done.stderr
    scores = json.loads((folders / "s.json").read_text())
    assert list(scores) == ["maps", "worse"]
    assert f"{scores['maps']['mae']:.4f}*" in done.stdout
    assert f"{scores['worse']['mae']:.4f}*" not in done.stdout
    assert f"\\textbf{{{scores['maps']['mae']:.4f}}}" in (folders / "s.tex").read_text()


def test_inverting_both_sides_keeps_mae_and_changes_f(folders):
    ours, _ = scored(folders)
    both, _ = scored(folders, invert_predictions=True, invert_masks=True)
    one, _ = scored(folders, invert_predictions=True)
    assert both.scores["mae"] == pytest.approx(ours.scores["mae"], abs=1e-12)
    assert both.scores["mean_f"] != pytest.approx(ours.scores["mean_f"], abs=1e-3)
    assert one.scores["mae"] == pytest.approx(1 - ours.scores["mae"], abs=1e-12)
    assert "maps and masks inverted" in both.protocol["polarity"]


def test_a_pair_of_which_neither_half_can_be_read_is_left_out_once(folders):
    for name in ("maps", "masks"):
        (folders / name / "c.png").write_bytes((folders / name / "c.png").read_bytes()[:40])
    result, warnings = scored(folders)
    assert (result.images, result.left_out, len(warnings["cannot be read"])) == (2, 1, 2)


def test_oddities_are_said_and_counted(folders):
    maps, masks = folders / "maps", folders / "masks"
    Image.fromarray(blob()).save(masks / "without.png")
    Image.fromarray(blob()).save(maps / "stranger.png")
    (maps / "c.png").write_bytes((maps / "c.png").read_bytes()[:40])
    Image.fromarray(blob(48, 60)).save(maps / "a.png")
    Image.fromarray(np.repeat(blob()[..., None], 3, 2)).save(maps / "b.png")
    grey = blob()
    grey[0, :7] = [1, 100, 127, 128, 129, 200, 254]
    Image.fromarray(grey).save(masks / "b.png")
    result, warnings = scored(folders)
    assert (result.images, result.resized, result.left_out) == (2, 1, 3)
    for kind, stem, what in (
        ("mask without a map", "without", "(left out)"),
        ("map without a mask", "stranger", "(left out)"),
        ("cannot be read", "c.png", "(left out)"),
        ("map of another size", "a.png", "60x48, resized to its mask's 30x24"),
        ("colour picture", "b.png", "RGB"),
        ("mask has grey levels", "b.png", "7 of 720 pixels"),
    ):
        assert len(warnings[kind]) == 1, kind
        assert stem in warnings[kind][0], kind
        assert what in warnings[kind][0], kind
    assert len(warnings) == 6
    done = run_here("evaluate", "--predictions", maps, "--masks", masks)
    assert done.returncode == 0
    assert "2 images scored, 1 maps resized, 3 left out" in done.stdout
    assert done.stderr.count("warning:") == 6
    json_file = folders / "s.json"
    done = run_here("evaluate", "--predictions", maps, "--masks", masks, "--strict", "--json", json_file)
    assert done.returncode == 2
    assert "6 warnings, and --strict" in done.stderr
    assert not json_file.exists()


def test_16_bits_constant_maps_and_bad_pictures(folders):
    Image.fromarray((blob().astype(np.uint16)) * 257).save(folders / "maps" / "a.png")
    Image.fromarray(np.full((24, 30), 9, np.uint8)).save(folders / "maps" / "b.png")
    result, warnings = scored(folders)
    assert result.pictures[0]["mae"] == 0
    assert "scaled to 8" in warnings["picture of 16 bits"][0]
    assert "9 everywhere" in warnings["map is constant"][0]
    for stem in "abc":
        (folders / "maps" / f"{stem}.png").write_text("not a picture")
    with pytest.raises(UserError, match=r"none of the 3 maps of maps could be scored, for instance: .*a\.png"):
        scored(folders)


def test_a_tiff_that_pillow_would_turn_is_left_out(folders):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    with Image.open(folders / "maps" / "a.png") as picture:
        picture.save(folders / "maps" / "a.tif", exif=exif)
    (folders / "maps" / "a.png").unlink()
    result, warnings = scored(folders)
    assert (result.images, result.left_out) == (2, 1)
    (line,) = [line for lines in warnings.values() for line in lines]
    assert "a.tif: cannot be read: it is a TIFF that is to be turned before it is seen; save it upright" in line


def test_maps_that_are_not_finite_have_no_scores():
    batch = {"image": np.zeros((1, 8, 8, 3), np.float32), "mask": np.zeros((1, 8, 8, 1)), "weight": np.ones(1)}
    with pytest.raises(UserError, match="the network's maps are not finite"):
        score_batches(lambda images: jnp.full((1, 8, 8, 1), jnp.nan), [batch])


def test_wrong_requests_are_refused_in_one_line(folders):
    maps, masks = folders / "maps", folders / "masks"
    (folders / "other").mkdir()
    assert "no pictures in" in refusal(*AFIU, "--predictions", folders / "other", "--masks", masks)
    Image.fromarray(blob()).save(folders / "other" / "z.png")
    done = run_here("evaluate", "--predictions", folders / "other", "--masks", masks)
    assert "no file name in common" in refused(done)
    for flags, message in (
        ((), "either --predictions DIR --masks DIR, or --checkpoint DIR"),
        (("--predictions", maps), "--predictions needs --masks"),
        (("--predictions", maps, "--masks", folders / "none"), "no folder"),
        (("--predictions", maps, "--masks", masks, "--predictions", maps), "named twice"),
        (("--predictions", maps, "--masks", masks, "--white", "focus", "--split", "test"), "--split, --white can only"),
        (("--predictions", maps, "--masks", masks, "--no-quantise"), "--no-quantise can only go with --checkpoint"),
        (("--predictions", maps, "--masks", masks, "--json", masks), "is a folder: name a file in it"),
        (("--predictions", maps, "--masks", masks, "--json", masks / "a.png"), "named as a picture, which scores"),
        (("--predictions", maps, "--masks", masks, "--json", "s", "--csv", "s"), "name a file for each"),
        (("--checkpoint", maps, "--invert-masks"), "--invert-masks can only go with --predictions"),
        (("--checkpoint", maps, "--white", "blur"), "--white can only go with --data"),
        (("--checkpoint", maps, "--data", "scenes", "--source", "duts"), "--source can only go with --data bokeh"),
        (("--checkpoint", maps, "--data", "scenes", "--masks-dir", "gt"), "--masks-dir can only go with a folder"),
        (("--checkpoint", maps, "--data", "scenes", "--white", "blur"), "--white can only go with data that is not"),
        (
            ("--checkpoint", maps, "--maps", masks),
            f"{masks / 'a.png'} is there already, and not known to be of this program",
        ),
    ):
        assert message in refused(run_here("evaluate", *flags)), flags


def test_maps_replace_those_of_before_and_nobody_elses(pocket, pocket_run, tmp_path):
    command = ("evaluate", "--checkpoint", pocket_run, "--data", "scenes", "--maps", tmp_path / "maps")
    for split, count in (("test[:2]", 2), ("test[:1]", 2)):
        done = run_here(*command, "--split", split)
        assert done.returncode == 0, done.stderr
        assert len(list((tmp_path / "maps").iterdir())) == count
    (tmp_path / "maps" / "photo.jpg").write_bytes(b"somebody's")
    assert "photo.jpg is there already, and not known to be of this program" in refused(run_here(*command))


@pytest.mark.parametrize("test", [{"name": "scenes"}, {"name": "bokeh", "source": "scenes"}])
def test_a_path_for_data_that_are_generated_is_refused(test, pocket, pocket_run, tmp_path):
    """Else scenes are scored, and taken for the pictures that were named."""
    run = rewrite_config(shutil.copytree(pocket_run, tmp_path / "run"), data__test=test)
    line = f"--path is mine, and the test data of run are generated ({describe(Spec(**test))}): say with --data"
    for command in (
        lambda: score_checkpoint(str(run), None, path="mine"),
        lambda: write_report(tmp_path / "out", [], None, None, [run], path="mine"),
    ):
        with pytest.raises(UserError, match=re.escape(line)):
            command()


def test_maps_of_an_earlier_call_are_counted(pocket, pocket_run, tmp_path, capsys):
    """They stay among the new ones, and would be scored with them."""
    for split, warnings in (("test[:3]", 0), ("test[1:4]", 1), ("test[:4]", 0)):
        scored, found = score_checkpoint(str(pocket_run), Spec("scenes", split=split), maps=tmp_path / "maps")
        printed = " ".join(capsys.readouterr().err.split())
        assert (scored.images, found) == (4 if split == "test[:4]" else 3, warnings)
        assert (f"maps of an earlier call that stay in {tmp_path}/maps" in printed) == bool(warnings)
        assert ("the same method's: 1; remove" in printed) == bool(warnings)


@pytest.mark.parametrize(("source", "expected"), [("scenes", "test"), (None, None), ("duts", "test")])
def test_bokeh_is_scored_on_the_part_that_nothing_was_trained_on(source, expected):
    assert _part("bokeh", source, None) == expected
    assert _part("bokeh", source, "val") == "val"


def test_bokeh_is_as_strong_as_in_the_run_and_the_protocol_says_so(pocket, pocket_run):
    """What is generated depends on more than its name and its part."""
    strong = {"name": "bokeh", "source": "scenes", "radius": [0.01, 0.04]}
    predictor = Predictor(pocket_run)
    predictor.config["data"] = {**predictor.config["data"], "train": {**predictor.config["data"]["train"], **strong}}
    spec = with_radius_of(predictor.config, Spec("bokeh", split="test[:4]", source="scenes"))
    assert describe_drawn(spec, 3) == "bokeh of scenes test[:4], blur radius 0.01 to 0.04, seed 3"
    assert with_radius_of(predictor.config, Spec("folder", "x")) == Spec("folder", "x")
    assert describe_drawn(Spec("folder", "x"), 3) == "folder x"


def test_faint_masks_are_said_and_counted(pocket, pocket_run, tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i, level in enumerate((255, 255, 90)):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (24, 30, 3), np.uint8)).save(
            tmp_path / "images" / f"{i}.png"
        )
        Image.fromarray(np.minimum(blob(), level)).save(tmp_path / "masks" / f"{i}.png")
    data = ("--data", "folder", "--path", tmp_path, "--white")
    command = ("evaluate", "--checkpoint", pocket_run, *data, "salient")
    done = run_here(*command)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1].startswith("warning: 2: the mask nowhere reaches 128")
    focus = run_here("evaluate", "--checkpoint", "u2netp-dbd", *data, "focus")
    assert "warning: 2: the mask nowhere reaches 128" in focus.stderr  # though blur is what is scored
    strict = run_here(*command, "--strict")
    assert (strict.returncode, strict.stderr.splitlines()[-1]) == (
        *(2, "error: 1 warnings, and --strict: nothing was written"),
    )


def test_pictures_of_any_sizes_share_few_programs_and_score_as_alone():
    random = np.random.default_rng(0)
    sizes = [(random.integers(20, 70), random.integers(20, 70)) for _ in range(12)]
    pictures = [(random.integers(0, 256, s, np.uint8), random.random(s) > 0.6) for s in map(tuple, sizes)]
    together = Scorer()
    for i, (found, mask) in enumerate(pictures):
        together.add(str(i), found, mask)
    rows = together.finish("all").pictures
    assert [row["id"] for row in rows] == [str(i) for i in range(12)]
    for (found, mask), row in zip(pictures, rows, strict=True):
        alone = Scorer()
        alone.add(row["id"], found, mask)
        for key, value in alone.finish("one").pictures[0].items():
            assert value == (row[key] if key == "id" else pytest.approx(row[key], abs=1e-12)), key


def test_16_bit_maps_are_scored_to_their_last_bit():
    mask = blob() > 0
    fine = np.where(mask, 40_000, 20_011).astype(np.uint16)
    scorer = Scorer()
    scorer.add("a", fine, mask)
    expected = np.abs(fine / 65535 - mask).mean()
    assert scorer.finish("fine").scores["mae"] == pytest.approx(expected, abs=1e-12)


def test_weights_of_the_package_are_scored_on_data_that_one_names(tmp_path):
    json_file = tmp_path / "s.json"
    done = run_command(
        *AFIU, "--checkpoint", "u2netp-sod", "--data", "scenes", "--split", "test[:2]", "--json", json_file
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(json_file.read_text())["images"] == 2
    assert "u2netp-sod has no test data of its own" in refused(run_here("evaluate", "--checkpoint", "u2netp-sod"))


def test_maps_score_the_same_in_memory_and_on_disk(pocket, pocket_run, tmp_path):
    predictor, source = Predictor(pocket_run, batch_size=2), open_source(Spec("scenes", split="test[:3]"), "salient")
    (tmp_path / "masks").mkdir()
    write = map_writer(tmp_path / "maps", predictor.about)

    def keep(record, found):
        write(record, found)
        Image.fromarray(record["mask"]).save(tmp_path / "masks" / f"{record['id']}.png")

    memory = evaluate(predictor, source, keep)
    disk = evaluate_folder(MapFolder(tmp_path / "maps", tmp_path / "masks"), name="disk")
    assert memory.scores == disk.scores
    unrounded = evaluate(predictor, source, quantise=False)
    assert unrounded.scores["mae"] == pytest.approx(memory.scores["mae"], abs=1 / 255)
    assert unrounded.scores["mae"] != memory.scores["mae"]


def test_arrays_of_other_types_are_refused_with_what_to_pass():
    """In a process of its own: here, the types of every signature are checked before."""
    code = """
import numpy as np
from afiu_jax.metrics import score_images
from afiu_jax.scoring import Scorer
grey, target = np.zeros((4, 4), np.uint8), np.zeros((4, 4), bool)
for found, mask in ((grey / np.float32(255), target), (grey, grey), (grey.astype(int), target)):
    for call in (
        lambda: Scorer().add("a", found, mask),
        lambda: score_images(found[None], mask[None], target[None], np.linspace(0, 1, 256)[None]),
    ):
        try:
            call()
        except ValueError as error:
            print(error)
"""
    lines = run_command("-c", code).stdout.splitlines()
    assert len(lines) == 6
    assert lines[0].endswith("such as afiu_jax.maps.to_8_bit(map in 0…1), and a mask of bool, such as mask >= 128")
    assert lines[1] == "levels are unsigned integers and masks bool, not float32 and bool"
    assert "its mask uint8" in lines[2]


def test_methods_of_other_images_are_not_ranked(folders):
    (folders / "half").mkdir()
    for stem in "ab":
        (folders / "half" / f"{stem}.png").write_bytes((folders / "maps" / f"{stem}.png").read_bytes())
    files = {kind: folders / f"table.{kind}" for kind in ("csv", "markdown", "latex")}
    flags = [flag for kind, file in files.items() for flag in (f"--{kind}", file)]
    methods = ("--predictions", folders / "maps", "--predictions", folders / "half")
    done = run_here("evaluate", *methods, "--masks", folders / "masks", *flags)
    assert done.returncode == 0, done.stderr
    assert f"c.png: mask without a map in {folders / 'half'}" in done.stderr
    assert [row.split(",")[:2] for row in files["csv"].read_text().splitlines()] == [
        *(["method", "images"], ["maps", "3"], ["half", "2"]),
    ]
    assert "best" not in done.stdout
    assert "images MAE ↓" in " ".join(done.stdout.split())
    assert "**" not in files["markdown"].read_text()
    assert "textbf" not in files["latex"].read_text()
