"""The recipes of the published networks: losses, optimisers, augmentation, and the configurations that name them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, run_command
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from afiu_jax.errors import UserError
from afiu_jax.losses import (
    DEFAULT_LOSS,
    LOSSES,
    binary_cross_entropy,
    consistency_enhanced,
    overlap,
    structural_dissimilarity,
)
from afiu_jax.networks import NETWORKS, Prediction
from afiu_jax.networks.published import PUBLISHED
from afiu_jax.training.config import resolve
from afiu_jax.training.loop import train_and_evaluate
from afiu_jax.training.optimizer import create_optimizer, learning_rate
from afiu_jax.training.schema import load_config
from input_pipeline.transforms import Augment, normalize

ZOO = sorted(set(NETWORKS) - {"afiu"})
SHARED = ROOT.parent / "shared" / "fixtures"


def logits_and_mask() -> tuple[jnp.ndarray, jnp.ndarray]:
    random = np.random.default_rng(0)
    mask = random.random((2, 20, 20, 1)) > 0.5
    return jnp.asarray(3 * random.standard_normal(mask.shape), jnp.float32), jnp.asarray(mask, jnp.float32)


def test_cel_overlap_and_ssim_by_their_formulas():
    logits, mask = logits_and_mask()
    p, g = 1 / (1 + np.exp(-np.asarray(logits, np.float64))), np.asarray(mask, np.float64)
    cel = ((p - p * g).sum() + (g - p * g).sum()) / (p.sum() + g.sum() + 1e-6)
    assert consistency_enhanced(logits, mask) == pytest.approx(cel, rel=1e-5)
    both = (p * g).sum((1, 2, 3))
    iou = 1 - both / (p.sum((1, 2, 3)) + g.sum((1, 2, 3)) - both)
    assert overlap(logits, mask) == pytest.approx(iou.mean(), rel=1e-5)
    sure, empty = jnp.full_like(logits, -120), jnp.zeros_like(mask)  # of which float32 has no probability but 0
    assert overlap(sure, empty) == 1
    assert not jax.grad(overlap)(sure, empty).any()

    def window(x):  # SciPy's own Gaussian, cut at the same radius
        return np.stack([gaussian_filter(i[..., 0], 1.5, radius=5, mode="constant") for i in x])[..., None]

    x, y = window(p), window(g)
    xx, yy, xy = window(p * p) - x * x, window(g * g) - y * y, window(p * g) - x * y
    ssim = ((2 * x * y + 1e-4) * (2 * xy + 9e-4)) / ((x * x + y * y + 1e-4) * (xx + yy + 9e-4))
    assert structural_dissimilarity(logits, mask) == pytest.approx(1 - ssim.mean(), rel=1e-4)


def test_deep_supervision_sums_over_outputs_at_the_masks_size():
    logits, mask = logits_and_mask()
    small = logits[:, ::2, ::2]
    prediction = Prediction(logits, (logits, small))
    one = float(binary_cross_entropy(logits, mask))
    resized = float(LOSSES["bce"](Prediction(small), mask))
    assert LOSSES["bce-sides"](prediction, mask) == pytest.approx(2 * one + resized, rel=1e-5)
    assert LOSSES["bce-fuse"](prediction, mask) == pytest.approx(2.1 * one + resized, rel=1e-5)
    cel = float(consistency_enhanced(logits, mask))
    assert LOSSES["bce-cel"](prediction, mask) == pytest.approx(one + cel, rel=1e-5)
    assert set(DEFAULT_LOSS) == set(NETWORKS)
    assert set(DEFAULT_LOSS.values()) == set(LOSSES)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared fixtures are not here")
@pytest.mark.parametrize("side", [64, 128])
def test_losses_of_the_published_training_steps(side):
    from published import mask

    truth = jnp.asarray(mask((2, 1, side, side)).transpose(0, 2, 3, 1))
    u2netp, minet = (np.load(SHARED / f"{name}.train.npz") for name in ("U2NETP", "MINet_Res50"))
    size = f"s{side}x{side}"
    logits = jnp.asarray(u2netp[f"{size}.logit.d0"].transpose(0, 2, 3, 1))
    assert binary_cross_entropy(logits, truth) == pytest.approx(float(u2netp[f"{size}.loss.bce.d0"]), rel=1e-5)
    logits = jnp.asarray(minet[f"{size}.logit.logits"].transpose(0, 2, 3, 1))
    assert consistency_enhanced(logits, truth) == pytest.approx(float(minet[f"{size}.loss.cel"]), rel=1e-5)
    total = LOSSES["bce-cel"](Prediction(logits), truth)
    assert total == pytest.approx(float(minet[f"{size}.loss.total"]), rel=1e-5)


def config_of(network: str, **train) -> dict:
    config = resolve(load_config(f"zoo/{network}"))
    config["train"].update(train)
    return config


def test_schedules_change_once_an_epoch():
    poly = learning_rate(config_of("minet_res50"), steps_per_epoch=10)
    for step, epoch in ((0, 0), (9, 0), (10, 1), (255, 25), (499, 49)):
        assert poly(step) == pytest.approx(1e-3 * (1 - epoch / 50) ** 0.9, rel=1e-6), step
    short = learning_rate(config_of("minet_res50", num_steps=40), steps_per_epoch=10)
    assert [float(short(step)) for step in (0, 39)] == pytest.approx([1e-3, 1e-3 * 0.025**0.9], rel=1e-4)
    step = learning_rate(config_of("sun"), steps_per_epoch=10)
    for count, rate in ((0, 5e-5), (799, 5e-5), (801, 5e-6), (901, 5e-7)):
        assert step(count) == pytest.approx(rate, rel=1e-5), count
    assert learning_rate(config_of("u2net"), 10) == 1e-3


def test_schedules_keep_their_shares_of_a_run_on_defocus_photos():
    for network, milestones in (("sun", [160, 180]), ("cpd_res50", [99]), ("u2net", [])):
        assert resolve(load_config(f"zoo/{network}", "own-dbd"))["train"]["milestones"] == milestones


def test_sgd_with_momentum_decays_kernels_only():
    """Two steps as PyTorch's SGD takes them: v = 0.9 v + g + 5e-4 w; w -= lr v."""
    optimizer = create_optimizer(config_of("minet_res50", schedule="constant"))
    params = {
        "conv": {"kernel": jnp.asarray([[2.0]]), "bias": jnp.asarray([2.0])},
        "norm": {"scale": jnp.asarray([2.0])},
    }
    state, w, v = optimizer.init(params), np.full(3, 2.0), np.zeros(3)
    for g in (0.5, -0.25):
        gradients = {
            "conv": {"kernel": jnp.asarray([[g]]), "bias": jnp.asarray([g])},
            "norm": {"scale": jnp.asarray([g])},
        }
        updates, state = optimizer.update(gradients, state, params)
        params = {k: {n: params[k][n] + updates[k][n] for n in params[k]} for k in params}
        v = 0.9 * v + g + 5e-4 * w * np.array([1, 0, 0])
        w = w - 1e-3 * v
    found = [params["conv"]["kernel"][0, 0], params["conv"]["bias"][0], params["norm"]["scale"][0]]
    np.testing.assert_allclose(found, w, rtol=1e-6)


def test_gradients_are_clipped_before_anything_else():
    gradients = {"w": jnp.asarray([3.0, -0.2])}
    sgd = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 1.0, "schedule": "constant"}
    by_value = create_optimizer(config_of("cpd_res50", **sgd))
    update, _ = by_value.update(gradients, by_value.init(gradients), gradients)
    np.testing.assert_allclose(update["w"], [-0.5, 0.2])
    by_norm = create_optimizer(config_of("sun", **sgd))
    update, _ = by_norm.update(gradients, by_norm.init(gradients), gradients)
    assert jnp.linalg.norm(update["w"]) == pytest.approx(1, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_crop_and_rotation_move_image_and_mask_together(seed):
    mask = np.zeros((40, 40), np.uint8)
    mask[12:30, 8:22] = 255
    record = {"image": np.repeat(mask[..., None], 3, 2), "mask": mask, "id": "a"}
    augment = Augment(0.5, 0.5, 0.0, rotation=10.0, crop=32)
    out, again = (augment(record, np.random.default_rng(seed)) for _ in range(2))
    assert out["image"].shape == (32, 32, 3)
    assert set(np.unique(out["mask"])) <= {0, 255}
    differs = (out["image"][..., 0] >= 128) != (out["mask"] >= 128)
    assert differs.mean() < 0.05  # the image is interpolated, the mask is not
    np.testing.assert_array_equal(out["image"], again["image"])


def test_bgr_images_are_raw():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(normalize(image, "bgr255"), image[..., ::-1].astype(np.float32))


@pytest.mark.parametrize("network", ZOO)
def test_every_configuration_resolves_at_a_legal_size(network):
    for variant in ("", "dbd", "own-dbd", "small", "demo", "demo-dbd"):
        config = resolve(load_config(f"zoo/{network}", variant))
        assert config["model"]["name"] == network
        assert config["loss"]["name"] == DEFAULT_LOSS[network]
        assert config["data"]["normalize"] == NETWORKS[network].normalization
        assert config["data"]["image_size"] in NETWORKS[network].sizes
        # U²-Net and BASNet did not smooth what they shrank; SRM did in its tests, by another program.
        smooths = PUBLISHED[network].antialias
        assert smooths == (network not in ("u2net", "u2netp", "basnet"))
        assert config["data"]["antialias"] == (smooths and not (network == "srm" and variant in ("", "own-dbd")))
        crop = config["data"]["random_crop"]
        assert not crop or crop in NETWORKS[network].sizes
        assert (config["task"]["name"] == "dbd") == variant.endswith("dbd")
        if variant == "dbd":  # the paper's
            train = config["train"]
            assert (train["learning_rate"], train["num_epochs"], train["optimizer"]) == (1e-5, 200, "adam")
        if variant == "own-dbd":
            length = {"num_epochs": 200, "num_steps": 0, "milestones": config["train"]["milestones"]}
            assert config["train"] == {**config_of(network)["train"], **length}
            assert config["data"]["train"]["name"] == "cuhk_defocus"
    with pytest.raises(UserError, match="no variant 'huge'"):
        load_config(f"zoo/{network}", "huge")


def test_cpd_on_vgg16_begins_as_published_only_in_its_own_recipe():
    variants = ("", "dbd", "own-dbd", "small", "demo")
    narrow = [resolve(load_config("zoo/cpd_vgg16", v))["model"]["options"]["narrow_init"] for v in variants]
    assert narrow == [True, True, True, False, False]


def test_wrong_values_are_refused(tmp_path):
    for key, value, message in (
        ("train.optimizer", "adamw", "train.optimizer is 'adamw'; it is one of: adam, sgd"),
        ("train.schedule", "cosine", "constant, poly, step"),
        ("data.random_crop", 500, "more than data.image_size"),
    ):
        config = load_config("zoo/u2netp", "demo")
        section, name = key.split(".")
        config[section][name] = value
        with pytest.raises(UserError, match=message):
            resolve(config)
    config = load_config("zoo/basnet", "demo")
    config.data.random_crop = 70
    with pytest.raises(UserError, match=r"data.random_crop is 70: basnet takes .* nearest: 64x64 or 96x96"):
        train_and_evaluate(config, tmp_path)


@pytest.mark.slow
def test_a_network_of_the_zoo_trains_and_transfers(tmp_path):
    """The real commands on the smallest network: SOD with a crop, then DBD from its weights."""
    tiny = [
        "--config.data.image_size=48", "--config.data.train.split=train[:8]", "--config.data.val.split=val[:2]",
        "--config.train.batch_size=2", "--config.eval.batch_size=2", "--config.train.num_steps=2",
    ]  # fmt: skip
    sod, dbd = tmp_path / "sod", tmp_path / "dbd"
    config = "configs/zoo/u2netp.py:demo"
    done = run_command("train.py", "--config", config, "--workdir", sod, "--config.data.random_crop=40", *tiny)
    assert done.returncode == 0, done.stderr
    assert "step 2: validation MAE" in done.stdout
    done = run_command("train.py", "--config", f"{config}-dbd", "--workdir", dbd, "--init_from", sod, *tiny)
    assert done.returncode == 0, done.stderr
    assert "absent 0, reshaped 0, unused 0" in " ".join(done.stdout.split())
