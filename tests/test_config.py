"""The schema, the shipped configurations, and what is refused."""

import re
from contextlib import nullcontext
from pathlib import Path

import pytest

from afiu_jax.errors import UserError
from afiu_jax.networks import network_options
from afiu_jax.training.config import differences, resolve
from afiu_jax.training.flags import read_config
from afiu_jax.training.ranges import check_option
from afiu_jax.training.schema import base_config, dataset, load_config


def test_defaults_are_the_papers():
    sod, dbd = resolve(load_config("sod")), resolve(load_config("dbd"))
    for config in (sod, dbd):
        assert config["data"]["image_size"] == 320
        assert (config["data"]["vertical_flip"], config["data"]["horizontal_flip"]) == (0.5, 0)
        train = config["train"]
        assert (train["batch_size"], train["learning_rate"], train["weight_decay"]) == (8, 1e-5, 0)
        assert (train["beta1"], train["beta2"]) == (0.9, 0.999)
        assert config["model"]["options"]["rsu_heights"] == [2, 3, 4, 5, 5]
        assert config["loss"]["name"] == "bce"
    assert (sod["train"]["num_epochs"], dbd["train"]["num_epochs"]) == (150, 200)
    assert (sod["data"]["train"]["name"], dbd["data"]["train"]["name"]) == ("duts", "cuhk_defocus")
    assert (sod["task"]["positive"], dbd["task"]["positive"]) == ("salient", "blur")


@pytest.mark.parametrize("name", ["sod", "dbd"])
@pytest.mark.parametrize("variant", ["small", "demo"])
def test_variants_are_small(name, variant):
    config = resolve(load_config(name, variant))
    assert config["model"]["options"]["channels"] == 16
    assert config["data"]["image_size"] < 320
    assert config["data"]["train"]["name"] in ("folder", "bokeh", "scenes")


def test_where_the_learning_rate_depends_on_it_the_length_of_a_run_stays():
    old, new = (resolve(load_config("zoo/minet_res50")) for _ in range(2))
    new["train"]["num_steps"] = 999
    assert differences(old, new) == ["train.num_steps: None -> 999"]


def test_a_run_of_before_an_option_had_its_default():
    old, new = (resolve(load_config("sod")) for _ in range(2))
    del old["model"]["options"]["rsu_mid"], old["train"]["remat"]
    assert differences(old, new) == []
    new["model"]["options"]["rsu_mid"] = 3
    assert differences(old, new) == [f"model.options.rsu_mid: {network_options('afiu')['rsu_mid']} -> 3"]


def test_unknown_variant_and_configuration():
    with pytest.raises(UserError, match=r"no variant 'tiny'.*small"):
        load_config("sod", "tiny")
    with pytest.raises(UserError, match="no configuration 'sad'"):
        load_config("sad")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.learning_rat", 1, r"unknown configuration key 'train.learning_rat'; did you mean train.learning_rate"),
        ("model.name", "u3net", "unknown network 'u3net'"),
        ("model.preset", "huge", "no preset 'huge'.*small"),
        ("model.options.depth", 3, "no option depth; it has: .*depths"),
        ("model.options.channels", "many", "model.options.channels is 'many'; it must be like its default, 64"),
        ("model.options.rsu_heights", (2, 2), r"model.options.rsu_heights is \(2, 2\); it must be 5 values like"),
        ("model.options.dtype", "float16", "model.options.dtype is 'float16'; it is one of: float32, bfloat16"),
        ("loss.name", "l1", "unknown loss 'l1'; loss.name is auto or one of"),
        ("task.name", "defocus", "task.name is 'defocus'; it is one of: sod, dbd"),
        ("data.normalize", "zero", "data.normalize is 'zero'"),
        ("data.on_error", "ignore", r"data.on_error is .ignore.; it is one of: stop, skip"),
        ("train.nonfinite", "warn", r"train.nonfinite is .warn.; it is one of: stop, skip"),
        ("train.batch_size", 0, "train.batch_size is 0; it must be at least 1"),
        ("train.num_steps", -3, "train.num_steps is -3"),
        ("train.learning_rate", -1.0, "not negative"),
        ("data.vertical_flip", 1.5, "must lie in 0…1"),
        ("train.beta2", 1.0, "train.beta2 is 1.0; it must be at least 0 and less than 1"),
    ],
)
def test_wrong_values_are_named(key, value, message):
    config = base_config()
    *parents, last = key.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    node[last] = value
    with pytest.raises(UserError, match=message) as caught:
        resolve(config)
    assert "\n" not in str(caught.value)


def test_options_follow_the_network_and_the_preset():
    config = load_config("sod", "small")
    config.model.options.channels = 24
    options = resolve(config)["model"]["options"]
    assert (options["channels"], options["width"], options["sim_low"]) == (24, 16, 8)
    assert options["dtype"] == "float32"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("trian.batch_size=4", "'trian' Did you mean \"train\""),
        ("seed.x=4", "seed.x"),
        ("train.milestones[0]=3", "tuple index out of range"),
        ("train.milestones.0=3", "train.milestones.0"),
        ("model.options.a.b=1", "'a'"),
    ],
)
def test_flags_that_lead_nowhere_are_one_line(flag, message):
    with pytest.raises(UserError, match="--config.… names no configuration key: .*" + re.escape(message)):
        read_config(["--config=configs/sod.py:demo", f"--config.{flag}"])


def test_what_fails_in_a_configuration_file_is_shown_where_it_fails(tmp_path):
    (tmp_path / "own.py").write_text("def get_config():\n    return {}['mistake']\n")
    with pytest.raises(KeyError, match="mistake"):
        read_config([f"--config={tmp_path}/own.py", "--config.seed=3"])


def test_paths_may_be_paths():
    config = load_config("sod", "demo")
    config.data.train = dataset("folder", path=Path("data") / "mine")
    assert resolve(config)["data"]["train"]["path"] == "data/mine"


@pytest.mark.parametrize(
    ("default", "value", "is_one"),
    [(None, 0.5, True), (None, "vgg", True), (None, [1], False), (((8, 1), (16, 2)), [[4, 1], [4, 2]], True)],
)
def test_options_of_own_networks(default, value, is_one):
    with nullcontext() if is_one else pytest.raises(UserError, match="it must be like its default"):
        check_option("model.options.own", value, default)
    with pytest.raises(UserError, match=r"model\.options\.own is a dictionary by default"):
        check_option("model.options.own", {"a": 1}, {"a": 2})


@pytest.mark.parametrize("milestones", [(0,), (-1,), (2, 2), (3, 2), ("a",)])
def test_milestones_are_epochs_one_after_the_other(milestones):
    config = load_config("sod", "demo")
    config.train.schedule, config.train.milestones = "step", milestones
    with pytest.raises(UserError, match="it must be epochs above 0, each later than the one before"):
        resolve(config)
    config.train.milestones = (1, 2.5)
    assert resolve(config)["train"]["milestones"] == [1, 2.5]


def test_seeds_are_numbers_that_jax_tells_apart():
    config = load_config("sod", "demo")
    config.seed = 2**32 - 1
    assert resolve(config)["seed"] == 2**32 - 1
    config.seed = 2**32  # whose key is that of 0
    with pytest.raises(UserError, match=r"it must be less than 2\*\*32"):
        resolve(config)


def test_what_a_resumed_run_may_change():
    old = resolve(load_config("sod", "demo"))
    config = load_config("sod", "demo")
    config.train.num_steps = 999
    config.eval.every_steps = 7
    config.checkpoint.keep_last = 9
    config.logging.panels = 1
    config.data.workers = 8
    config.data.on_error = "skip"
    config.data.train.path = "elsewhere"
    assert differences(old, resolve(config)) == []
    config.train.learning_rate = 0.5
    config.data.train.split = "val"
    assert differences(old, resolve(config)) == [
        "data.train.split: train -> val",
        "train.learning_rate: 0.001 -> 0.5",
    ]
