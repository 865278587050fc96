"""The transfer study without training: its grid, its numbers against numbers by hand, its tables and its page."""

import json
import re
from itertools import product

import numpy as np
import pytest
from PIL import Image
from scipy.special import ndtr, ndtri
from studies import IMAGES, scored_maps, tiny_afiu, tiny_grid

from afiu_jax.errors import UserError
from afiu_jax.metrics import BETA2
from afiu_jax.report.formats import to_latex
from afiu_jax.report.runs import without_home
from afiu_jax.study import figures
from afiu_jax.study.config import base_study, benchmark, network, read_study
from afiu_jax.study.differences import RESAMPLES, mae_difference, max_f_difference
from afiu_jax.study.grid import make_grid
from afiu_jax.study.page import write_study
from afiu_jax.study.results import collect, mean_and_spread, to_csv, to_json
from afiu_jax.study.strategies import STRATEGIES, strategy
from afiu_jax.study.tables import interval, paper_table, starts_table
from afiu_jax.training.config import differences
from afiu_jax.training.schema import load_config
from input_pipeline.scenes import Scenes


def test_the_grid_shares_sod_runs_and_goes_seed_by_seed(tmp_path):
    grid = tiny_grid(
        tmp_path,
        seeds=(0, 1),
        starts=("scratch", "imagenet", "sod", "sod-l2sp", "published"),
        networks={
            "afiu": tiny_afiu(),
            "u2netp": network(seeds=(1,), starts=("sod", "published"), weights="x.pth"),
        },
    )
    assert [job.name for job in grid.cells] == [
        *("afiu/scratch-seed0", "afiu/sod-seed0", "afiu/sod-l2sp-seed0"),
        *("afiu/scratch-seed1", "afiu/sod-seed1", "afiu/sod-l2sp-seed1", "u2netp/sod-seed1", "u2netp/published-seed1"),
    ]
    assert [job.name for job in grid.pretrainings] == [
        "afiu/sod-pretraining-seed0", "afiu/sod-pretraining-seed1", "u2netp/sod-pretraining-seed1",
    ]  # fmt: skip
    needs = {job.name: job.needs and job.needs.name for job in grid.cells}
    assert needs["afiu/sod-l2sp-seed1"] == needs["afiu/sod-seed1"] == "afiu/sod-pretraining-seed1"
    assert needs["afiu/scratch-seed1"] is None
    assert grid.cells[-1].weights == "x.pth"
    chosen = [job.name for job in grid.select(["u2netp/*", "*/scratch", "afiu/sod-seed0"])]
    assert chosen == [
        *("u2netp/sod-pretraining-seed1", "afiu/scratch-seed0", "afiu/sod-pretraining-seed0", "afiu/sod-seed0"),
        *("afiu/scratch-seed1", "u2netp/sod-seed1", "u2netp/published-seed1"),
    ]
    assert len(grid.select([])) == 11


def test_every_seed_sees_the_same_generated_data(tmp_path):
    grid = tiny_grid(tmp_path, seeds=(0, 1), starts=("scratch", "sod"))
    paths = {job.config["data"]["train"]["path"] for job in grid.cells}
    assert len(paths) == 1
    assert {job.config["seed"] for job in grid.cells} == {0, 1}
    assert len(grid.data) == 5  # of SOD and of DBD for training and validation, and the test set
    for data in grid.data:
        data.write()
    mine = next(data for data in grid.data if str(data.path) in paths)
    record = Scenes(white="blur", split="train", seed=0)[3]
    for part, expected in (("images", record["image"]), ("masks", (record["mask"] >= 128) * np.uint8(255))):
        np.testing.assert_array_equal(np.asarray(Image.open(mine.path / part / f"{record['id']}.png")), expected)


def test_strategies_change_what_they_say(tmp_path):
    grid = tiny_grid(
        tmp_path,
        starts=("scratch", "imagenet", *(name for name in STRATEGIES if name.startswith("sod")), "mine"),
        strategies={"mine": strategy("sod", "mine", train={"learning_rate": 0.5})},
        networks={"afiu": network(backbone_weights="resnet50.npz")},
    )
    base = next(job for job in grid.cells if job.start == "scratch")
    changes = {job.start: differences(base.config, job.config) for job in grid.cells}
    assert changes == {
        "scratch": [],
        "imagenet": ["model.backbone_weights: None -> resnet50.npz"],
        "sod": [],
        "sod-frozen-encoder": ["train.freeze:  -> encoder"],
        "sod-layerwise-lr": ["train.layerwise_decay: 1.0 -> 0.7"],
        "sod-l2sp": ["train.l2sp: 0.0 -> 0.01"],
        "sod-focus-positive": ["task.positive: blur -> focus"],
        "mine": ["train.learning_rate: 0.001 -> 0.5"],
    }
    assert {job.start for job in grid.cells if job.needs is None} == {"scratch", "imagenet"}


def test_wrong_studies_are_refused_in_one_line(tmp_path):
    for fields, message in (
        ({"networks": {"unet": network()}}, "unknown network 'unet'"),
        ({"starts": ("sodd",)}, "unknown start 'sodd'; there are scratch, imagenet, sod"),
        ({"starts": ("published",)}, "nothing to run"),
        ({"startz": ("sod",)}, "unknown configuration key 'startz'; did you mean starts"),
        ({"networks": {"afiu": {**network(), "wieghts": "x"}}}, "unknown configuration key 'networks.afiu.wieghts'"),
        ({"networks": {"afiu": network(dbd={"train": {"lr": 1}})}}, "unknown configuration key 'train.lr'"),
        ({"strategies": {"mine": {"origin": "sod"}}}, "it has an origin"),
        ({"tests": {"scenes": benchmark("scenes", paper="ECSSD")}}, "Table 2 of the paper has CUHK, DUT"),
    ):
        with pytest.raises(UserError, match=re.escape(message)) as caught:
            tiny_grid(tmp_path, **fields)
        assert "\n" not in str(caught.value)
    empty = base_study()
    with pytest.raises(UserError, match="the study has no networks"):
        read_study(empty)
    with pytest.raises(UserError, match=r"--only basnet/\*: nothing in the study is called so; there are afiu/sod-pre"):
        tiny_grid(tmp_path).select(["basnet/*"])


def test_means_spreads_and_steps_by_hand(half_done):
    results = collect(half_done)
    scratch, sod = results.entry("afiu", "scratch"), results.entry("afiu", "sod")
    for entry, noise in ((scratch, 0.4), (sod, 0.2)):
        a, b = (scored_maps(seed, noise).scores["mae"] for seed in (0, 1))
        mean, deviation = mean_and_spread(entry.values("scenes", "mae"))
        assert mean == pytest.approx((a + b) / 2)
        assert deviation == pytest.approx(abs(a - b) / 2**0.5)
    # Scratch's best is 0.3 at step 4 with both seeds; the prior is there at step 2 with seed 0, and never with seed 1.
    assert [(r.seed, r.mae, r.step) for r in scratch.reached] == [(0, 0.3, 4), (1, 0.3, 4)]
    assert [(r.seed, r.step) for r in sod.reached] == [(0, 2), (1, None)]
    assert (scratch.mean_steps, sod.mean_steps) == (4, None)
    assert mean_and_spread([]) == (None, None)
    assert mean_and_spread([0.5]) == (0.5, None)


def bca(draws: np.ndarray, value: float, without_one: np.ndarray) -> tuple[float, float]:
    """The ends of the 95 % BCa interval, as Efron (1987) writes them."""
    bias = ndtri(((draws < value).mean() + (draws <= value).mean()) / 2)
    deviations = without_one.mean() - without_one
    skewness = (deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5)
    z = ndtri([0.025, 0.975])
    return tuple(np.percentile(draws, 100 * ndtr(bias + (bias + z) / (1 - skewness * (bias + z)))))


def test_intervals_equal_a_direct_computation():
    """The same draws, each scored with a loop over its images; F by its formula, from averages of their curves."""
    ours, theirs = [scored_maps(0, 0.2), scored_maps(1, 0.3)], [scored_maps(0, 0.5), scored_maps(1, 0.4)]

    def mae(images):
        each = [np.mean([run.pictures[i]["mae"] for i in images]) for run in (*ours, *theirs)]
        return np.mean(each[:2]) - np.mean(each[2:])

    def max_f(images):
        each = []
        for run in (*ours, *theirs):
            averaged = [np.mean([run.image_curves[key][i] for i in images], 0) for key in ("precision", "recall")]
            curve = [(1 + BETA2) * p * r / (BETA2 * p + r) if p * r else 0 for p, r in zip(*averaged, strict=True)]
            each.append(max(curve))
        return np.mean(each[:2]) - np.mean(each[2:])

    draws = np.random.default_rng(0).integers(0, IMAGES, (RESAMPLES, IMAGES))
    for found, score in ((mae_difference(ours, theirs), mae), (max_f_difference(ours, theirs), max_f)):
        value = score(range(IMAGES))
        without_one = np.array([score([i for i in range(IMAGES) if i != left_out]) for left_out in range(IMAGES)])
        table = {key: score(key) for key in {tuple(sorted(draw)) for draw in draws}}
        low, high = bca(np.array([table[tuple(sorted(draw))] for draw in draws]), value, without_one)
        assert found.value == pytest.approx(value, abs=1e-9)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
        assert found.low < found.value < found.high


def test_no_interval_where_there_is_nothing_to_draw():
    same = [scored_maps(0, 0.2)]
    found = mae_difference(same, same)
    assert (found.value, found.low, found.high) == (0, None, None)
    assert interval(found) == "+0.0000"


def test_numbers_on_disk(half_done):
    results = collect(half_done)
    numbers = json.loads(json.dumps(to_json(results)))
    cells = {f"{cell['start']}-{cell['seed']}": cell for cell in numbers["cells"]}
    assert cells["sod-0"]["status"] == "done"
    assert cells["sod-0"]["scored_step"] == 4
    assert cells["sod-0"]["scores"]["scenes"]["max_f"] == scored_maps(0, 0.2).scores["max_f"]
    assert (cells["sod-0"]["steps_to_scratch_best"], cells["sod-1"]["steps_to_scratch_best"]) == (2, None)
    assert cells["sod-focus-positive-1"]["failure"] == "the loss of step 3 is nan"
    assert cells["sod-focus-positive-0"]["status"] == "not run"
    summary = {row["start"]: row for row in numbers["summary"]}
    difference = summary["sod"]["minus_scratch"]["scenes"]
    means = [summary[start]["scores"]["scenes"] for start in ("sod", "scratch")]
    for key in ("mae", "max_f"):
        assert difference[key]["value"] == pytest.approx(means[0][key]["mean"] - means[1][key]["mean"], abs=1e-6)
    assert summary["sod-focus-positive"]["scores"]["scenes"] == {}
    rows = [line.split(",") for line in to_csv(results).splitlines()]
    assert rows[0][:7] == ["network", "start", "test", "seed", "status", "mae", "max_f"]
    assert [row[3] for row in rows[1:5]] == ["0", "1", "mean", "sd"]
    assert float(rows[3][5]) == pytest.approx((float(rows[1][5]) + float(rows[2][5])) / 2)
    assert rows[-4][4:7] == ["not run", "", ""]


def test_tables_say_what_is_better_what_failed_and_what_the_paper_has(half_done):
    results = collect(half_done)
    paper = paper_table(results)
    without, with_prior = paper.rows
    assert (without.name, with_prior.name) == ("AFIU, from scratch", "AFIU, SOD prior")
    keys = [column.key for column in paper.columns]
    assert keys == [
        *("scenes max_f ours", "scenes mae ours", "CUHK max_f paper", "CUHK mae paper"),
        *("DUT max_f paper", "DUT mae paper"),
    ]
    by_key = dict(zip(keys, paper.columns, strict=True))
    assert (without.text("CUHK max_f paper"), with_prior.text("DUT mae paper")) == ("0.9289", "0.0719")
    assert paper.rank(with_prior, by_key["scenes mae ours"]) == 1
    assert paper.rank(with_prior, by_key["CUHK mae paper"]) == 1
    a, b = (scored_maps(seed, 0.2).scores["mae"] for seed in (0, 1))
    text = f"{(a + b) / 2:.4f} ± {abs(a - b) / 2**0.5:.4f}"
    write_study(results, "afiu study")
    folder = half_done.folder
    assert f"**{text}**" in (folder / "table2.md").read_text()
    assert rf"\textbf{{{text}}}" in (folder / "table2.tex").read_text()
    assert f"{text}*" in (folder / "table2.txt").read_text()
    starts = starts_table(results)
    rows = {row.name: row for row in starts.rows}
    assert rows["AFIU, from scratch"].text("steps") == "4"
    assert rows["AFIU, SOD prior"].text("steps") == "not reached by 1 of 2 seeds"
    difference = results.entry("afiu", "sod").differences["scenes"]["mae"]
    assert rows["AFIU, SOD prior"].text("scenes mae difference") == interval(difference)
    empty = rows["AFIU, SOD prior, 1 = in focus"]
    assert empty.text("scenes mae ours") == ""
    assert "afiu/sod-focus-positive-seed1 failed: the loss of step 3 is nan" in (folder / "starts.md").read_text()


def test_the_page_needs_no_network_and_shows_everything(half_done):
    for data in half_done.data:
        data.write()
    page = write_study(collect(half_done), "afiu study --config tiny.py").read_text(encoding="utf-8")
    assert not re.search(r"""src=["'](?!data:)|<link[^>]*href=["'](?!data:)""", page)
    for part in (
        *("4 of 6 cells are done, 1 failed", "not reached by 1 of 2 seeds", "0.9365", "task.positive = focus"),
        *("afiu/sod-focus-positive-seed1 failed: the loss of step 3 is nan", "afiu study --config tiny.py", "not run"),
        *("scene-test-00000", "BCa", "SOD prior, 1 = in focus", "learning_rate"),
    ):
        assert part in page, part
    assert page.count("<svg") == 5  # differences, PR, F, loss, validation
    assert page.count("data:image/") >= 4 * IMAGES
    of_test = {f"{figure}-scenes" for figure in ("pr", "f-threshold", "difference", "comparison")}
    for name in of_test | {"loss-afiu", "validation-afiu"}:
        assert (half_done.folder / "figures" / f"{name}.svg").stat().st_size > 1000


def test_nothing_yet_is_reported_as_such(tmp_path):
    results = collect(tiny_grid(tmp_path / "study"))
    page = write_study(results, "afiu study").read_text(encoding="utf-8")
    assert "0 of 2 cells are done" in page
    assert paper_table(results).rows[0].text("scenes mae ours") == ""


def test_the_shipped_studies(tmp_path):
    """Every variant resolves; the paper's has all networks of Table 2, the small one what it promises."""
    for variant, cells in (("", 18 + 27), ("own-recipes", 18 + 27), ("small", 6 + 8 + 3), ("demo", 6)):
        grid = make_grid(read_study(load_config("studies/table2", variant)), tmp_path)
        assert len(grid.cells) == cells, variant
    small = load_config("studies/table2", "small")
    small.data = "../elsewhere"
    grid = make_grid(read_study(small), tmp_path)
    assert {test.source.path for test in grid.tests.values()} == {"../elsewhere/msra10k", "../elsewhere/cuhk"}


@pytest.mark.parametrize(("networks", "starts"), [(2, 2), (8, 1), (2, 6)])
def test_no_two_lines_look_alike(networks, starts):
    entries = {f"{n} {s}": (str(n), str(s)) for n, s in product(range(networks), range(starts))}
    styles = figures.styles_of(entries)
    looks = {(look["color"], str(look["linestyle"])) for look in styles.values()}
    assert len(looks) == len(styles) == len(entries)
    if (networks, starts) == (2, 2):
        assert styles["0 0"]["color"] == styles["0 1"]["color"] != styles["1 0"]["color"]


def test_names_of_test_sets_are_text_in_latex(tmp_path):
    grid = tiny_grid(tmp_path, tests={"my_{photos}": benchmark("scenes")})
    header = to_latex(paper_table(collect(grid)))
    assert r"my\_\{photos\} $F_" in header
    assert "my_" not in header


def test_home_is_hidden_and_nothing_else(monkeypatch):
    for home, text, expected in (
        ("/home/ann", "/home/ann/runs, /home/anna/x and /home/ann", "~/runs, /home/anna/x and ~"),
        ("/root", "/mnt/root/cuhk, /root/cuhk and ~/root", "/mnt/root/cuhk, ~/cuhk and ~/root"),
        ("/", "configs/studies/table2.py --config.data=/data", "configs/studies/table2.py --config.data=/data"),
    ):
        monkeypatch.setenv("HOME", home)
        assert without_home(text) == expected
