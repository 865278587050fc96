"""``afiu import-weights``, ``afiu export`` and ``afiu models``: from a file to a checkpoint and back."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_OPTIONS, run_command
from PIL import Image
from pocket import add_names, pocket_config
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from afiu_jax import create_model
from afiu_jax.errors import UserError
from afiu_jax.export import export
from afiu_jax.inference import Predictor
from afiu_jax.interop import importing, load_torch_checkpoint
from afiu_jax.interop.exported import read_exported
from afiu_jax.interop.importing import import_weights
from afiu_jax.interop.layout import to_published
from afiu_jax.networks import NETWORKS
from afiu_jax.networks.published import PUBLISHED
from afiu_jax.training import loop
from afiu_jax.training.checkpoint import has_checkpoints, load_model
from afiu_jax.training.saved import match
from afiu_jax.weights import FOLDER
from input_pipeline.photos import Photos


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """A file like a published one, of AFIU-small."""
    model = create_model("afiu", **NETWORKS["afiu"].presets["small"])
    path = tmp_path_factory.mktemp("published") / "afiu.safetensors"
    save_file(to_published(model, "afiu"), path)
    return path


@pytest.fixture
def imported(published, tmp_path, monkeypatch) -> Path:
    """A checkpoint of that file, at an image size that compiles in a moment."""
    monkeypatch.setitem(PUBLISHED, "afiu", replace(PUBLISHED["afiu"], image_size=64))
    import_weights("afiu", published, tmp_path / "run", preset="small")
    return tmp_path / "run"


def test_an_imported_checkpoint_is_like_that_of_a_run(imported, published, tmp_path):
    saved = load_model(imported)
    assert saved.config["task"]["positive"] == "salient"
    assert saved.config["data"]["normalize"] == "imagenet"
    assert saved.config["data"]["image_size"] == 64
    Image.fromarray(np.full((30, 50, 3), 90, np.uint8)).save(tmp_path / "a.png")
    ((_, found),) = Predictor(imported, batch_size=1).maps([Photos([tmp_path / "a.png"])[0]])
    assert found.shape == (30, 50)
    model = create_model("afiu", **saved.config["model"]["options"])
    report = match(saved, model, "afiu")  # what --init_from does first
    assert not (report.absent or report.reshaped or report.unused)
    listed = json.loads((imported / "import.json").read_text())
    assert listed["loaded"]["E2.0.downsample.0.weight"] == "E2.blocks.0.downsample_conv.kernel"
    export(imported, tmp_path / "again.safetensors")
    first, again = load_file(published), load_file(tmp_path / "again.safetensors")
    assert first.keys() == again.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(again[key], value)


def test_the_report_says_what_went_where(imported, published, tmp_path, capsys):
    import_weights("afiu", published, tmp_path / "second", preset="small")
    printed = capsys.readouterr().out
    assert "arrays, passed over 127 counters of batches" in " ".join(printed.split())
    assert "AIM3" in printed
    with pytest.raises(UserError, match="has checkpoints already"):
        import_weights("afiu", published, tmp_path / "second", preset="small")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.png")
    with pytest.raises(UserError, match="leave out --calibrate"):
        import_weights("afiu", published, tmp_path / "third", preset="small", photos=tmp_path / "photos")
    assert not has_checkpoints(tmp_path / "third")


def test_folded_normalisations_stay_known_through_an_export(pocket, tmp_path, monkeypatch, capsys):
    """Else training from the file would undo them without a word, and no photos could mend it."""
    add_names(monkeypatch)
    model = create_model("pocket")
    model.norm.var[...] = np.full(4, 1 - model.norm.epsilon, np.float32)  # as a folded one is read
    save_file(to_published(model, "pocket"), tmp_path / "folded.safetensors")
    import_weights("pocket", tmp_path / "folded.safetensors", tmp_path / "run")
    path = export(tmp_path / "run", tmp_path / "half.safetensors", half=True).path
    for start in (tmp_path / "run", path):
        config = pocket_config(train__num_steps=1, eval__every_steps=1)
        loop.train_and_evaluate(config, tmp_path / start.stem / "from", str(start))
        told = " ".join(capsys.readouterr().out.split())
        assert "training undoes that: import it again with --calibrate PHOTOS" in told
    (tmp_path / "photos").mkdir()
    Image.effect_noise((40, 30), 60).save(tmp_path / "photos" / "a.png")
    import_weights("pocket", path, tmp_path / "mended", photos=tmp_path / "photos")
    assert load_model(tmp_path / "mended").batch_stats["norm.mean"].all()
    loop.train_and_evaluate(config, tmp_path / "last", str(tmp_path / "mended"))
    assert "--calibrate" not in capsys.readouterr().out


def test_what_was_trained_is_exported_in_the_published_names(untrained, tmp_path):
    done = run_command("-m", "afiu_jax.cli", "export", "--checkpoint", untrained, "--out", tmp_path / "a.safetensors")
    assert done.returncode == 0, done.stderr
    assert "wrote" in done.stdout
    model = create_model("afiu", **TINY_OPTIONS)
    load_torch_checkpoint(model, tmp_path / "a.safetensors")
    saved = load_model(untrained)
    np.testing.assert_array_equal(model.E1.conv.kernel[...], saved.params["E1.conv.kernel"])
    np.testing.assert_array_equal(model.D1.embed.norm.mean[...], saved.batch_stats["D1.embed.norm.mean"])
    with safe_open(tmp_path / "a.safetensors", "numpy") as file:
        assert file.metadata()["network"] == "afiu"
        assert file.metadata()["image_size"] == "64"
        assert file.get_tensor("D1.rebnconvin.bn_s1.num_batches_tracked") == 0
    with pytest.raises(UserError, match=r"ends in \.safetensors"):
        export(untrained, tmp_path / "a.bin")
    with pytest.raises(UserError, match="unknown format 'keras'"):
        export(untrained, tmp_path / "a.keras", "keras")


def test_what_was_exported_says_itself_how_it_is_used(published, tmp_path, monkeypatch):
    run, name = tmp_path / "run", "u2netp-dbd"
    own = FOLDER / f"{name}.safetensors"
    assert "says focus of itself, and --white blur" in refused(import_weights, "u2netp", own, run, positive="blur")
    assert "says u2netp of itself, and --model u2net:" in refused(import_weights, "u2net", own, run)
    assert "leave out --preset" in refused(import_weights, "u2netp", own, run, preset="small")
    assert not run.exists()
    import_weights("u2netp", own, run)
    found, expected = load_model(run), read_exported(own)
    assert found.config["task"] == expected.config["task"]
    assert found.config["model"]["options"] == expected.config["model"]["options"]
    assert {key: found.config["data"][key] for key in expected.config["data"]} == expected.config["data"]
    assert Predictor(run).positive == "blur"


@pytest.mark.parametrize(
    ("key", "value", "known"),
    [
        ("positive", "blurred", "salient, blur, focus"),
        ("task", "defocus", "sod, dbd"),
        ("normalize", "image-net", "imagenet, max-imagenet, bgr255"),
    ],
)
def test_a_use_that_nothing_here_knows_is_refused(key, value, known, tmp_path):
    """Metadata that somebody wrote by hand: what they mean is not to be guessed."""
    own, file = FOLDER / "u2netp-dbd.safetensors", tmp_path / "mine.safetensors"
    with safe_open(own, "numpy") as opened:
        save_file(load_file(own), file, {**opened.metadata(), key: value})
    line = f"the metadata of {file} say that {key} is '{value}'; it is one of: {known}"
    assert refused(read_exported, file) == line
    assert refused(import_weights, "u2netp", file, tmp_path / "run") == line


def test_the_meaning_of_other_files_is_the_callers_to_say(published, tmp_path):
    assert "--white is 'black'" in refused(
        import_weights, "afiu", published, tmp_path, preset="small", positive="black"
    )
    import_weights("afiu", published, tmp_path, preset="small", positive="focus")
    assert load_model(tmp_path).config["task"] == {"name": "dbd", "positive": "focus"}


def refused(function, *arguments, **options):
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    return str(caught.value)


def test_wrong_requests_are_refused_in_one_line(published, tmp_path):
    command = ("-m", "afiu_jax.cli", "import-weights", "--from", published, "--out", tmp_path / "run")
    done = run_command(*command, "--model", "basnet")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: {published} does not fit basnet: it lacks ")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="unknown network 'u3net'"):
        import_weights("u3net", published, tmp_path / "run")
    with pytest.raises(UserError, match="has other shapes for"):
        import_weights("afiu", published, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_models_lists_every_network():
    done = run_command("-m", "afiu_jax.cli", "models")
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    assert PUBLISHED.keys() == NETWORKS.keys()
    for part in (*NETWORKS, "163,295,329", "44,009,869", "CVPR 2020", "GFLOPs"):
        assert part in printed
    for name, published in PUBLISHED.items():
        NETWORKS[name].sizes.require((published.image_size, published.image_size), name)


@pytest.mark.parametrize("name", NETWORKS)
def test_configurations_of_imports(name):
    config = importing.published_config(name)
    assert config["model"]["name"] == name
    assert config["data"]["normalize"] == NETWORKS[name].normalization
    assert config["data"]["antialias"] == PUBLISHED[name].antialias
