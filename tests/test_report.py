"""Reports, tables of scores, and the paper's own tables as data."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT, rewrite_config, run_command, run_here
from PIL import ExifTags, Image
from test_commands import refusal, refused

from afiu_jax.commands.report import write_report
from afiu_jax.errors import UserError
from afiu_jax.report import command, formats
from afiu_jax.report.command import report
from afiu_jax.report.curves import pr_curves
from afiu_jax.report.page import Content, Method, visual_grid
from afiu_jax.report.published import cells, contradictions, on_data, table1, table2, table3
from afiu_jax.report.tables import beside_paper, comparison_table
from afiu_jax.scoring import Scored, Scorer
from input_pipeline.sources import Spec

PAPER = ROOT.parent / "shared" / "reference" / "paper.txt"
AFIU = ("-m", "afiu_jax.cli", "report")
EMPTY = Scored("none", {}, {}, [], {}, 0)


def picture(i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A photo, its mask, and a map that gets worse with i."""
    mask = np.zeros((40, 56), np.uint8)
    mask[8 : 20 + i, 10:40] = 255
    photo = np.random.default_rng(i).integers(0, 256, (40, 56, 3), np.uint8)
    return photo, mask, (mask * (0.9 - 0.1 * i) + 20 * i).astype(np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    for name in ("images", "masks", "good", "bad"):
        (root / name).mkdir()
    for i in range(4):
        photo, mask, found = picture(i)
        for name, array in (("images", photo), ("masks", mask), ("good", found), ("bad", 255 - found)):
            Image.fromarray(array).save(root / name / f"photo{i}.png")
    return root


@pytest.fixture(scope="module")
def methods() -> list[Scored]:
    scored = []
    for name in ("good & small", "bad"):
        scorer = Scorer()
        for i in range(3):
            _, mask, found = picture(i)
            scorer.add(str(i), found if name != "bad" else 255 - found, mask > 0)
        scored.append(scorer.finish(name))
    return scored


def test_page_shows_scores_pictures_and_curves_and_needs_no_network(folders, pocket_run, tmp_path):
    out = tmp_path / "report"
    done = run_command(
        *AFIU, "--predictions", folders / "good", "--predictions", folders / "bad", "--masks", folders / "masks",
        "--images", folders / "images", "--run", pocket_run, "--published", "CUHK", "--title", "Two methods", "-o", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (out / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"""src=["'](?!data:)|<link[^>]*href=["'](?!data:)""", page)  # links to follow are no loads
    assert not re.search(r"@import|url\((?!['\"]?(?:data:|#))", page)
    for part in ("Two methods", "good", "bad", "0.9365", "β² = 0.3", "photo0", "learning_rate", "afiu report", "jax"):
        assert part in page, part
    assert page.count("data:image/") > 8
    for figure in ("pr", "f-threshold", "comparison"):
        for kind in ("png", "svg"):
            assert (out / "figures" / f"{figure}.{kind}").stat().st_size > 1000
    assert list((out / "figures").glob("*train*.png")) or list((out / "figures").glob("*loss*.png"))
    rows = (out / "scores.csv").read_text().splitlines()
    assert rows[0].startswith("method,mae,max_f,")
    assert len(rows) >= 3
    assert "report:" in done.stdout


def test_report_on_runs_alone_makes_and_scores_their_maps(pocket, pocket_run, tmp_path):
    command = ("report", "--run", pocket_run, "--data", "scenes", "--split", "test[:3]", "-o", tmp_path)
    done = run_here(*command)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "maps" / pocket_run.name).glob("*.png"))) == 3
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "scene-test-00000" in page
    assert "1 = salient" in page
    again = run_here("report", "--run", pocket_run, "--split", "val[:2]", "-o", tmp_path)  # of the run's own test data
    assert again.returncode == 0, again.stderr
    for folder in (f"maps/{pocket_run.name}", "masks", "images"):
        assert [path.stem for path in sorted((tmp_path / folder).iterdir())] == ["scene-val-00000", "scene-val-00001"]
    assert "scored on 2 images" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_masks_that_mark_nothing_are_told(pocket, pocket_run, folders, tmp_path):
    for name in ("images", "masks"):
        (tmp_path / "own" / name).mkdir(parents=True)
    for path in (folders / "masks").iterdir():
        shutil.copy(folders / "images" / path.name, tmp_path / "own" / "images")
        Image.fromarray(np.asarray(Image.open(path)) // 3).save(tmp_path / "own" / "masks" / path.name)
    data = ("--data", "folder", "--path", tmp_path / "own", "--white", "salient")
    done = run_here("report", "--run", pocket_run, *data, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "nowhere reach 128, from where on they mark anything" in done.stderr


def test_a_method_called_mask_does_not_stand_for_it(methods):
    shown = []

    def show(what: str):
        return lambda image: shown.append((what, image)) or np.zeros((40, 56), np.uint8)

    content = Content([Method(replace(methods[0], name="mask"), show("map"))], mask=show("truth"), rows=1)
    grid = visual_grid(content)
    assert grid.titles == ["mask", "mask"]
    assert [what for what, _ in shown] == ["truth", "map"]
    assert [tile.mae is None for tile in grid.rows[0][1]] == [True, False]


def test_an_earlier_report_leaves_nothing_behind(folders, pocket_run, tmp_path, monkeypatch):
    """Its tables would be taken for those of the new one; and the home folder is nobody's business."""
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(folders / "masks", tmp_path / "masks")
    page = write_report(tmp_path / "out", [folders / "good"], tmp_path / "masks", None, [])
    assert "~/masks" in page.read_text(encoding="utf-8")
    assert str(tmp_path) not in page.read_text(encoding="utf-8")
    (tmp_path / "out" / "figures" / "own.png").write_bytes(b"mine")
    report(tmp_path / "out", {}, lambda *_: None, runs={"sod": pocket_run})
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"index.html", "figures"}
    stems = {path.stem for path in (tmp_path / "out" / "figures").iterdir()}
    assert stems == {"loss", "validation", "own"}


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_a_photo_is_shown_as_its_map_fits_it(suffix, folders, tmp_path):
    """As it is stored, as data sets have it, or upright, as ``afiu predict`` has it; never on its side."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for name, size in (("images", (56, 40)), ("upright", (40, 56)), ("stored", (56, 40))):
        (tmp_path / name).mkdir()
        picture = Image.new("L", size)
        picture.paste(255, (0, 0, 20, 20))
        file = f"a.{suffix}" if name == "images" else "a.png"
        picture.save(tmp_path / name / file, exif=exif if name == "images" else None)
    shown = {}

    def keep(out, content):
        shown[out.name] = content.photo("a")
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "write_report", keep)
        for name in ("upright", "stored"):
            report(tmp_path / name, {name: tmp_path / name}, lambda *_: EMPTY, masks=tmp_path / name,
                   images=tmp_path / "images")  # fmt: skip
    assert shown["upright"].shape == (56, 40, 3)
    assert shown["upright"][:20, -20:].min() > 200  # the corner that was marked, turned by a quarter
    # Pillow turns a TIFF by itself, so that it cannot be shown as it is stored.
    assert shown["stored"].shape == ((56, 40, 3) if suffix == "tif" else (40, 56, 3))


def test_photos_that_lack_are_named_before_anything_is_scored(folders, tmp_path):
    shutil.copytree(folders / "images", tmp_path / "images")
    for name in ("photo2", "photo3"):
        (tmp_path / "images" / f"{name}.png").unlink()

    def score(*_):
        raise AssertionError("scored")

    with pytest.raises(UserError, match="images lacks the picture of photo2 and 1 more: photos and scored maps must"):
        report(tmp_path / "out", {"good": folders / "good"}, score, masks=folders / "masks", images=tmp_path / "images")
    shutil.copytree(folders / "good", tmp_path / "maps")
    for name in ("photo2", "photo3"):
        (tmp_path / "maps" / f"{name}.png").unlink()
    with pytest.raises(AssertionError, match="scored"):  # what has no map is not drawn
        report(tmp_path / "out", {"m": tmp_path / "maps"}, score, masks=folders / "masks", images=tmp_path / "images")


def test_methods_without_a_common_image_have_scores_and_no_grid(folders, tmp_path):
    for name, stems in (("a", "01"), ("b", "23")):
        (tmp_path / name).mkdir()
        for i in stems:
            shutil.copy(folders / "good" / f"photo{i}.png", tmp_path / name)
    maps = [tmp_path / "a", tmp_path / "b"]
    page = write_report(tmp_path / "out", maps, folders / "masks", None, []).read_text(encoding="utf-8")
    assert "scored on different images; 0 are common to all" in page
    assert "Visual comparison" not in page
    assert len((tmp_path / "out" / "scores.csv").read_text().splitlines()) == 3
    page = tmp_path / "out" / "index.html"
    page.rename(tmp_path / "elsewhere.html")
    with pytest.raises(UserError, match=r"scores\.\w+ is there already, without a report of afiu"):
        write_report(tmp_path / "out", maps, folders / "masks", None, [])
    (tmp_path / "mine" / "figures").mkdir(parents=True)
    (tmp_path / "mine" / "figures" / "pr.png").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"pr\.png is there already, without a report of afiu"):
        write_report(tmp_path / "mine", maps, folders / "masks", None, [])
    assert (tmp_path / "mine" / "figures" / "pr.png").read_bytes() == b"mine"
    (tmp_path / "mine" / "figures" / "pr.png").rename(tmp_path / "mine" / "figures" / "network.png")
    write_report(tmp_path / "mine", maps, folders / "masks", None, [])
    assert (tmp_path / "mine" / "figures" / "network.png").read_bytes() == b"mine"


def test_runs_are_scored_on_one_data_set_whatever_their_seeds(pocket, pocket_run, tmp_path):
    """The same network twice, once as of a run with another seed, which would draw other scenes of the same names."""
    other = rewrite_config(shutil.copytree(pocket_run, tmp_path / "other"), seed=1)
    page = write_report(tmp_path / "out", [], None, None, [pocket_run, other])
    ours, theirs = (row.split(",")[1:] for row in (tmp_path / "out" / "scores.csv").read_text().splitlines()[1:])
    assert ours == theirs
    assert "scenes test[:4], seed 0; 1 = salient" in page.read_text(encoding="utf-8")
    data = {"name": "folder", "path": str(tmp_path / "out")}  # what a report keeps, a report must not remove
    with pytest.raises(UserError, match=r"lies in .*out, where the report goes"):
        write_report(tmp_path / "out", [], None, None, [pocket_run], spec=Spec(**data))
    assert len(list((tmp_path / "out" / "images").iterdir())) == 4
    rewrite_config(other, data__test__split="val[:4]")
    with pytest.raises(UserError, match=r"scenes val\[:4\] for its test data and the runs before it scenes test"):
        write_report(tmp_path / "out", [], None, None, [pocket_run, other])


def test_runs_of_two_tasks_are_refused_before_a_map_is_made(pocket, pocket_run, tmp_path):
    other = rewrite_config(shutil.copytree(pocket_run, tmp_path / "other"), task__positive="focus")
    with pytest.raises(UserError, match=r"1 means blur in .*other but salient in the other runs: report them apart"):
        write_report(tmp_path / "out", [], None, None, [pocket_run, other])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("count", "length"), [(3, 45), (10, 16), (10, 45)])
def test_every_name_lies_within_the_figure(count, length):
    curves = {"precision": np.linspace(0.2, 1, 256), "recall": np.linspace(1, 0, 256)}
    named = [f"{number} {'U²-Netp, SOD prior ' * 3}"[:length] for number in range(count)]
    figure = pr_curves([Scored(name, {}, curves, [], {}, 1) for name in named])
    figure.draw_without_rendering()
    legend = (figure.legends or [figure.axes[0].get_legend()])[0]
    assert len(legend.get_texts()) == count
    assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in legend.get_texts())


def test_report_refuses_in_one_line(folders, tmp_path):
    good, masks = folders / "good", folders / "masks"
    assert "name what to report on" in refusal(*AFIU, "-o", tmp_path / "out")
    for flags, message in (
        (("--predictions", good), "name the folder of the masks"),
        (("--predictions", tmp_path / "none", "--masks", masks), "no folder"),
        (("--predictions", good, "--masks", masks, "--published", "COCO"), "no results on 'COCO'"),
        (("--predictions", good, "--masks", masks, "--run", tmp_path), "no run in"),
        (("--predictions", good, "--masks", masks, "--split", "test"), "--split can only go with --run, without"),
        (("--run", tmp_path, "--invert-masks"), "--invert-masks can only go with --predictions"),
        (("--run", tmp_path, "--white", "blur"), "--white can only go with --data"),
        (
            ("--run", tmp_path, "--data", "scenes", "--images-dir", "i"),
            "--images-dir can only go with --data folder or bokeh",
        ),
        (
            ("--run", tmp_path, "--data", "scenes", "--path", masks),
            "--path can only go with data that is not generated",
        ),
        (("--run", "u2netp-sod"), "no run in u2netp-sod"),
    ):
        assert message in refused(run_here("report", *flags, "-o", tmp_path / "out")), flags


def test_best_values_are_marked_and_digits_kept(methods):
    table = comparison_table(methods)
    good, bad = (method.scores["mae"] for method in methods)
    assert good < bad
    assert f"{good:.4f}*" in formats.to_text(table)
    assert f"**{good:.4f}**" in formats.to_markdown(table)
    latex = formats.to_latex(table)
    assert f"\\textbf{{{good:.4f}}}" in latex
    assert r"good \& small" in latex
    assert repr(good) in formats.to_csv(table)
    one = formats.to_text(comparison_table(methods[:1]))
    assert "*" not in one  # nothing is best without something to compare with
    with pytest.raises(UserError, match="no score 'map'"):
        comparison_table(methods, ["map"])


def test_names_are_text_in_every_format(methods):
    odd = [replace(methods[0], name="[12] *__init__*"), replace(methods[1], name="a|b <b>")]
    latex = formats.to_latex(comparison_table(odd))
    assert r"  {}[12] *\_\_init\_\_* &" in latex
    markdown = formats.to_markdown(comparison_table(odd))
    assert r"| \[12] \*\_\_init\_\_\* |" in markdown
    assert r"| a\|b \<b> |" in markdown


def test_papers_rows_stand_beside_ours_and_what_was_not_run_stays_empty(methods):
    table = beside_paper(2, {("afiu", True, "CUHK"): methods[0]})
    ours = formats.to_csv(table).splitlines()
    rows = {line.split(",")[0] if not line.startswith('"') else line.split('"')[1]: line for line in ours}
    with_prior = next(line for name, line in rows.items() if "with SOD prior" in name and "without" not in name and
                      repr(methods[0].scores["mae"]) in line)  # fmt: skip
    assert "0.9365" in with_prior
    assert sum(repr(methods[0].scores["mae"]) in line for line in ours) == 1
    with pytest.raises(UserError, match="has no cell"):
        beside_paper(2, {("afiu", True, "ECSSD"): methods[0]})


def test_the_papers_tables():
    assert (table2("afiu", prior=True, data="CUHK").max_f, table2("afiu", prior=True, data="CUHK").mae) == (
        0.9365,
        0.1074,
    )
    assert (table2("afiu", prior=False, data="DUT").max_f, table2("afiu", prior=False, data="DUT").mae) == (
        0.9483,
        0.0840,
    )
    assert (table3("afiu", data="DUTS-TE").max_f, table3("afiu", data="DUTS-TE").mae) == (0.8711, 0.0416)
    assert table3("amulet", data="SOD").max_f is None
    assert len({(c.method, c.prior) for c in cells(2)}) == 20
    assert [cell.prior for cell in on_data("DUT")] == [False, True]
    with pytest.raises(UserError, match="no results in Table 4"):
        cells(4)


def test_contradictions_are_marked():
    assert "0.9306" in table1("u2net", data="DUT").note
    assert "0.1018" in table1("basnet", data="CUHK").note
    assert table1("ksfv", data="DUT").note
    assert any("10533" in c.where + c.reason and "10553" in c.where + c.reason for c in contradictions())
    assert any("0.892" in c.where for c in contradictions())


@pytest.mark.skipif(not PAPER.exists(), reason="the paper's text is not here")
def test_every_number_is_printed_in_the_paper():
    text = PAPER.read_text(encoding="utf-8")
    numbers = {number for t in (1, 2, 3) for cell in cells(t) for number in cell.printed.values() if number}
    assert len(numbers) > 200
    assert [number for number in sorted(numbers) if number not in text] == []
