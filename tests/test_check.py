"""``afiu data check`` finds what was put into the data, and nothing in clean data."""

import json

import numpy as np
import pytest
from conftest import run_command
from PIL import Image
from test_bokeh import box, soft, textured
from test_folder import encoded, noise

from afiu_jax.commands.check import check
from afiu_jax.console import open_console
from input_pipeline.likeness import same_pictures, thumbnail
from input_pipeline.scenes import Scenes
from input_pipeline.sources import Spec


def photos(count, first=0):
    scenes = Scenes("salient", size=96)
    return [scenes[i] for i in range(first, first + count)]


def write(root, records):
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for record in records:
        (root / "images" / f"{record['id']}.png").write_bytes(encoded(record["image"], "png"))
        (root / "masks" / f"{record['id']}.png").write_bytes(encoded(record["mask"], "png"))


def test_clean_data_has_no_problems(tmp_path, capsys):
    write(tmp_path / "train", photos(12))
    write(tmp_path / "test", photos(12, first=12))
    report = tmp_path / "new" / "report.json"
    assert check(Spec("folder", str(tmp_path)), ["train", "test"], report) == 0
    said = capsys.readouterr().out
    assert "12 pairs can be read; 255 marks salient" in said
    assert "96…96 x 96…96" in said
    found = json.loads(report.read_text())
    assert found["duplicates"] == []
    assert [part["images"] for part in found["parts"].values()] == [12, 12]
    share = np.mean([(record["mask"] >= 128).mean() for record in photos(12)])
    train = found["parts"][f"folder {tmp_path} train"]
    assert train["masks"]["mean_share"] == pytest.approx(share)
    assert train["sizes"] == {"96x96": 12}


def test_what_is_wrong_is_named_in_text_and_file(tmp_path):
    train, test = photos(5), photos(4, first=5)
    leaked = {**test[0], "id": "leaked"}
    write(tmp_path / "train", [*train, leaked])
    write(tmp_path / "test", test)
    images, masks = tmp_path / "train" / "images", tmp_path / "train" / "masks"
    Image.fromarray(leaked["image"]).resize((150, 120)).save(images / "leaked.jpg", quality=70)
    (images / "leaked.png").unlink()
    Image.fromarray(leaked["mask"]).resize((150, 120)).save(masks / "leaked.png")
    names = [record["id"] for record in train]
    (masks / f"{names[0]}.png").write_bytes(encoded(train[0]["mask"] // 255, "png"))  # 0 and 1
    (masks / f"{names[1]}.png").write_bytes(encoded(noise(96, 96), "png"))
    (masks / f"{names[2]}.png").unlink()
    (masks / f"{names[3]}.png").write_bytes(encoded(np.zeros((96, 96), np.uint8), "png"))
    report = tmp_path / "report.json"
    arguments = ("-m", "afiu_jax.cli", "data", "check", "--data", "folder", "--path", tmp_path)
    done = run_command(*arguments, "--split", "train", "--split", "test", "--json", report)
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(report.read_text())
    part = found["parts"][f"folder {tmp_path} train"]
    assert part["images"] == 4
    assert len(part["problems"]) == 2
    assert any(f"{names[1]}.png looks like a photo" in reason for reason in part["problems"].values())
    assert any(f"{names[2]}.png has no mask" in reason for reason in part["problems"].values())
    assert part["masks"]["unscaled"] == [names[0]]
    assert part["masks"]["empty"] == [names[0], names[3]]
    assert found["duplicates"] == [
        [[f"folder {tmp_path} train", "leaked"], [f"folder {tmp_path} test", leaked_id(test)]]
    ]
    assert f"leaked of folder {tmp_path} train = {leaked_id(test)} of folder {tmp_path} test" in done.stdout
    assert done.stdout.splitlines()[-1] == "4 problems"


def leaked_id(test):
    return test[0]["id"]


@pytest.mark.parametrize(("white", "inverted"), [("blur", False), ("focus", True)])
def test_inverted_masks_are_suspected(tmp_path, white, inverted):
    subject, records = box(), []
    for seed in range(6):
        sharp = np.roll(textured(), 7 * seed, axis=1)
        image = np.where(subject[..., None], sharp, soft(sharp))
        records.append({"image": image, "mask": np.where(subject, np.uint8(0), np.uint8(255)), "id": str(seed)})
    write(tmp_path, records)
    report = tmp_path / "report.json"
    check(Spec("folder", str(tmp_path), white=white), [], report)
    (part,) = json.loads(report.read_text())["parts"].values()
    assert part["polarity"]["inverted"] == inverted
    assert len(part["polarity"]["suspicious"]) == (6 if inverted else 0)


def test_one_picture_is_known_again_and_others_are_not_taken_for_it():
    pictures = [record["image"] for record in photos(40)]
    flat = [np.full((50, 60, 3), level, np.uint8) for level in (40, 90, 200)]  # fingerprints alike, pictures not
    brighter = np.clip(pictures[0].astype(int) + 3, 0, 255).astype(np.uint8)
    thumbnails = [thumbnail(image) for image in (*pictures, *flat, brighter)]
    assert same_pictures(thumbnails) == [(0, 43)]
    assert same_pictures([]) == []


def test_a_wrong_request_is_one_line(tmp_path):
    done = run_command("-m", "afiu_jax.cli", "data", "check", "--data", "folder", "--path", tmp_path / "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no folder ")
    assert len(done.stderr.splitlines()) == 1


def test_cut_outs_on_white_have_no_sharpness_and_no_problem(tmp_path, capsys):
    """Beside an edge as sharp as any, nothing at all."""
    image, mask = np.full((96, 96, 3), 255, np.uint8), np.zeros((96, 96), np.uint8)
    mask[24:72, 24:72] = 255
    image[mask > 0] = np.random.default_rng(0).integers(0, 200, (48 * 48, 3), np.uint8)
    write(tmp_path, [{"image": image, "mask": mask, "id": "a"}])
    assert check(Spec("folder", str(tmp_path), white="focus"), []) == 0
    assert "no problems" in capsys.readouterr().out


def test_names_are_printed_as_they_are(capsys):
    open_console().print("a:car:b [red]")
    assert capsys.readouterr().out == "a:car:b [red]\n"
