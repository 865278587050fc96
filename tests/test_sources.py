import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from input_pipeline.bokeh import Bokeh
from input_pipeline.folder import Folder
from input_pipeline.polarity import looks_inverted
from input_pipeline.records import DataError, Source
from input_pipeline.scenes import Scenes
from input_pipeline.sources import Spec, describe, open_source


def halves(seed, h=24, w=30):
    """A picture whose left part is detailed and whose right part is smooth, and the mask of the smooth one."""
    random = np.random.default_rng(seed)
    edge = int(random.integers(8, 22))
    image = np.repeat(np.linspace(60, 180, h)[:, None], w, axis=1)[..., None].repeat(3, axis=-1)
    image[:, :edge] += random.normal(0, 30, (h, edge, 1))
    smooth = np.arange(w) >= edge
    return image.clip(0, 255).astype(np.uint8), np.where(smooth, np.uint8(255), np.zeros((h, w), np.uint8))


def write(root, count=10):
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for index in range(count):
        image, mask = halves(index)
        Image.fromarray(image).save(root / f"images/p{index:02}.png")
        Image.fromarray(mask).save(root / f"masks/p{index:02}.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Folders of ten pairs, ``val`` of six."""
    root = tmp_path_factory.mktemp("data")
    write(root)
    write(root / "train")
    write(root / "val", 6)
    return root


def folder(root, **options):
    return Spec("folder", path=str(root), **options)


def names(source):
    return [source[i]["id"] for i in range(len(source))]


def complaint(spec, positive):
    with pytest.raises(DataError) as caught:
        open_source(spec, positive)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Declared:
    """Another source's records under another declaration of white."""

    def __init__(self, source, white):
        self.source, self.white = source, white

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        return self.source[index]


class Listed:
    def __init__(self, pairs, white):
        self.pairs, self.white = pairs, white

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        image, mask = self.pairs[index]
        return {"image": image, "mask": mask, "id": str(index)}


def test_a_folder_is_opened_with_what_the_specification_says(root, tmp_path):
    source = open_source(folder(root), "salient")
    assert isinstance(source, Source)
    assert source.white == "salient"
    assert names(source) == [f"p{i:02}" for i in range(10)]
    image, mask = halves(3)
    assert np.array_equal(source[3]["image"], image)
    assert np.array_equal(source[3]["mask"], mask)
    write(tmp_path, 2)
    (tmp_path / "images").rename(tmp_path / "photo")
    (tmp_path / "masks").rename(tmp_path / "gt")
    assert len(open_source(folder(tmp_path, images_dir="photo", masks_dir="gt"), "salient")) == 2
    assert "path" in complaint(Spec("folder"), "salient")


def test_a_folder_s_split_is_a_folder_inside_it(root):
    assert len(open_source(folder(root, split="train"), "salient")) == 10
    assert len(open_source(folder(root, split="val"), "salient")) == 6
    assert str(root / "test" / "images") in complaint(folder(root, split="test"), "salient")


@pytest.mark.parametrize("declared", ["blur", "focus"])
@pytest.mark.parametrize("wanted", ["blur", "focus"])
def test_masks_are_turned_to_what_the_task_wants(root, declared, wanted):
    source = open_source(folder(root, white=declared), wanted)
    assert source.white == wanted
    for index in range(len(source)):
        image, mask = halves(index)
        record = source[index]
        assert np.array_equal(record["image"], image)
        assert np.array_equal(record["mask"], mask if declared == wanted else 255 - mask)
        assert record["mask"].dtype == np.uint8


def test_grey_levels_of_a_mask_are_turned_too(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(levels).save(tmp_path / "images/a.png")
    Image.fromarray(levels).save(tmp_path / "masks/a.png")
    record = open_source(folder(tmp_path, white="blur"), "focus")[0]
    assert record["mask"].ravel().tolist() == list(range(255, -1, -1))


def test_scenes_need_no_files_and_mark_what_the_task_wants():
    views = {white: open_source(Spec("scenes", split="val"), white) for white in ("salient", "blur", "focus")}
    assert {len(view) for view in views.values()} == {200}
    for white, view in views.items():
        assert view.white == white
        expected = Scenes(white, "val")[5]
        assert view[5]["id"] == "scene-val-00005"
        assert np.array_equal(view[5]["image"], expected["image"])
        assert np.array_equal(view[5]["mask"], expected["mask"])
    assert np.array_equal(views["focus"][5]["mask"], 255 - views["blur"][5]["mask"])
    assert len(open_source(Spec("scenes"), "blur")) == 2000
    assert "dev" in complaint(Spec("scenes", split="dev"), "blur")


def test_bokeh_over_scenes(root):
    blur, focus = (open_source(Spec("bokeh", source="scenes", split="val"), white) for white in ("blur", "focus"))
    assert (len(blur), blur.white, focus.white) == (200, "blur", "focus")
    expected = Bokeh(Scenes("salient", "val"))
    for index in range(5):
        assert np.array_equal(blur[index]["image"], expected[index]["image"])
        assert np.array_equal(blur[index]["mask"], expected[index]["mask"])
        assert np.array_equal(focus[index]["image"], blur[index]["image"])
        assert np.array_equal(focus[index]["mask"], 255 - blur[index]["mask"])


@pytest.mark.parametrize("white", [None, "salient"])
def test_bokeh_over_a_folder(root, white):
    spec = Spec("bokeh", path=str(root), split="val", white=white)
    blur, focus = open_source(spec, "blur"), open_source(spec, "focus")
    assert names(blur) == [f"p{i:02}" for i in range(6)]
    expected = Bokeh(Folder(root / "val"))
    for index in range(6):
        assert np.array_equal(blur[index]["image"], expected[index]["image"])
        assert np.array_equal(blur[index]["mask"], expected[index]["mask"])
        assert np.array_equal(focus[index]["mask"], 255 - blur[index]["mask"])


def test_bokeh_takes_salient_masks_alone_and_serves_blur_alone(root):
    assert "salient" in complaint(Spec("bokeh", path=str(root), white="blur"), "blur")
    assert "bokeh of scenes" in complaint(Spec("bokeh", source="scenes"), "salient")
    assert "folder, scenes" in complaint(Spec("bokeh", path=str(root), source="bokeh"), "blur")


@pytest.mark.parametrize(("name", "source"), [("scenes", "folder"), ("bokeh", "folder"), ("bokeh", "scenes")])
def test_another_seed_generates_other_pictures(root, name, source):
    spec = Spec(name, path=str(root), source=source, split="val[:1]")
    pictures = {open_source(spec, "blur", seed=seed)[0]["image"].tobytes() for seed in (0, 1, 2)}
    assert len(pictures) == 3
    assert open_source(spec, "blur", seed=1)[0]["image"].tobytes() in pictures


def test_a_tfds_data_set_that_is_not_prepared_says_how_to_prepare_it(tmp_path, monkeypatch):
    said = complaint(Spec("ecssd", path=str(tmp_path)), "salient")
    assert str(tmp_path) in said
    assert "afiu data prepare ecssd" in said
    said = complaint(Spec("bokeh", path=str(tmp_path), source="duts"), "blur")
    assert "afiu data prepare duts" in said
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    assert str(tmp_path / "elsewhere") in complaint(Spec("ecssd"), "salient")


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path):
    said = complaint(Spec("ecsdd", path=str(tmp_path)), "salient")
    assert "'ecsdd'" in said
    assert "ecssd" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("white", [None, "salient"])
@pytest.mark.parametrize("positive", ["blur", "focus"])
def test_salient_masks_do_not_serve_a_blur_task(root, white, positive):
    said = complaint(folder(root, white=white), positive)
    assert "name bokeh" in said
    assert str(root) in said
    assert f"wants {positive}" in said


@pytest.mark.parametrize("white", ["blur", "focus"])
def test_blur_masks_do_not_serve_a_salient_task(root, white):
    assert f"mark {white}" in complaint(folder(root, white=white), "salient")


@pytest.mark.parametrize("name", ["folder", "scenes", "bokeh", "ecssd"])
def test_unknown_meanings_are_answered_with_the_known_ones(root, name):
    # A command line may hold what the types forbid, and nothing checks them outside of tests.
    open_unchecked = inspect.unwrap(open_source)
    spec, misspelt = Spec(name, path=str(root)), Spec(name, path=str(root))
    object.__setattr__(misspelt, "white", "sharp")
    for arguments, word in (((misspelt, "blur"), "white"), ((spec, "sharp"), "task.positive")):
        with pytest.raises(DataError) as caught:
            open_unchecked(*arguments)
        assert f"{word} is 'sharp'" in str(caught.value)
        assert "salient, blur, focus" in str(caught.value)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("val[:3]", range(0, 3)),
        ("val[2:]", range(2, 6)),
        ("val[1:4]", range(1, 4)),
        ("val[:]", range(6)),
        ("val[:50%]", range(0, 3)),
        ("val[:99]", range(6)),
        ("val[:17%]", range(0, 1)),
        ("[90%:]", range(9, 10)),
        ("[:4]", range(4)),
        ("train[10%:20%]", range(1, 2)),
        ("train[25%:]", range(2, 10)),
        ("train[5:80%]", range(5, 8)),
    ],
)
def test_slices_of_a_folder(root, split, expected):
    source = open_source(folder(root, split=split), "salient")
    assert len(source) == len(expected)
    assert names(source) == [f"p{i:02}" for i in expected]
    with pytest.raises(IndexError):
        source[len(expected)]


@pytest.mark.parametrize(
    ("split", "first", "count"), [("val[:3]", 0, 3), ("[90%:]", 1800, 200), ("test[10:12]", 10, 2)]
)
def test_slices_of_scenes(split, first, count):
    source = open_source(Spec("scenes", split=split), "blur")
    assert len(source) == count
    assert source[0]["id"] == f"scene-{split.partition('[')[0] or 'train'}-{first:05}"


@settings(max_examples=50, deadline=None)
@given(percent=st.integers(0, 100), other=st.integers(0, 100))
def test_percentages_cut_without_gap_or_overlap(percent, other):
    low, high = sorted((percent, other))
    kept = []
    for part in (f"[:{low}%]", f"[{low}%:{high}%]", f"[{high}%:]"):
        try:
            source = open_source(Spec("scenes", split=f"test{part}"), "blur")
        except DataError:
            continue
        assert abs(len(source) - 200 * part_of(part)) <= 1
        kept += list(source.indices)
    assert kept == list(range(200))


def part_of(part):
    low, high = part[1:-1].replace("%", "").split(":")
    return (int(high or 100) - int(low or 0)) / 100


@pytest.mark.parametrize("split", ["[:0]", "val[:0]", "val[6:]", "val[4:4]", "val[5:2]", "val[:1%]", "val[60%:40%]"])
def test_a_slice_that_leaves_nothing_is_an_error(root, split):
    said = complaint(folder(root, split=split), "salient")
    assert f"nothing is left of {6 if 'val' in split else 10} records" in said
    assert str(root) in said


@pytest.mark.parametrize(
    "split",
    ["val[", "val[3", "val]", "val[3]", "val[a:]", "val[:3", "val[1:2:3]", "val[:1.5]", "val[:3]x", "val[:5%%]"],
)
def test_a_malformed_split_is_named_with_the_form(root, split):
    for spec in (folder(root, split=split), Spec("scenes", split=split), Spec("ecssd", split=split)):
        said = complaint(spec, "salient")
        assert repr(split) in said
        assert "name[:100]" in said


def test_a_slice_of_several_parts_is_refused():
    """It would be one of their union: train+test[500:] would train on the first 500 of test."""
    assert "a slice would be one of all of train+test; name one part" in complaint(
        Spec("duts", split="train+test[500:]"), "salient"
    )


def test_descriptions_name_what_was_asked_for():
    assert describe(Spec("scenes")) == "scenes"
    assert describe(Spec("folder", path="/data", split="val[:3]")) == "folder /data val[:3]"
    assert describe(Spec("bokeh", path="/data", source="duts")) == "bokeh of duts /data"


@pytest.mark.parametrize("white", ["blur", "focus"])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_inverted_declaration_of_scenes_is_seen(white, seed):
    scenes = Scenes(white, "val", seed=seed)
    other = {"blur": "focus", "focus": "blur"}[white]
    assert not looks_inverted(scenes)
    assert looks_inverted(Declared(scenes, other))


def test_scenes_of_salient_objects_never_look_inverted():
    masks = Scenes("blur", "val")
    assert not looks_inverted(Declared(masks, "salient"))
    assert not looks_inverted(Declared(Scenes("focus", "val"), "salient"))


@pytest.mark.parametrize("positive", ["blur", "focus"])
def test_an_inverted_declaration_of_a_folder_is_seen_whatever_the_task_wants(root, positive):
    assert not looks_inverted(open_source(folder(root, white="blur"), positive))
    assert looks_inverted(open_source(folder(root, white="focus"), positive))


def test_a_few_contradicting_pictures_are_not_an_inversion():
    right = [halves(i) for i in range(12)]
    wrong = [(image, 255 - mask) for image, mask in right]
    assert looks_inverted(Listed(wrong, "blur"))
    assert not looks_inverted(Listed(right[:6] + wrong[6:], "blur"))
    assert not looks_inverted(Listed(wrong[:1], "blur"))


def test_masks_of_one_value_say_nothing():
    flat = [(halves(i)[0], np.full((24, 30), 255 * (i % 2), np.uint8)) for i in range(12)]
    assert not looks_inverted(Listed(flat, "blur"))
    assert not looks_inverted(Listed(flat, "focus"))
    wrong = [(image, 255 - mask) for image, mask in map(halves, range(6))]
    assert looks_inverted(Listed(flat + wrong, "blur"))


def test_the_check_reads_no_more_pictures_than_it_says():
    class Counting(Declared):
        reads = ()

        def __getitem__(self, index):
            self.reads = (*self.reads, index)
            return super().__getitem__(index)

    source = Counting(Listed([halves(i) for i in range(50)], "blur"), "blur")
    looks_inverted(source, samples=7)
    assert len(source.reads) == 7
    assert len(set(source.reads)) == 7
    assert max(source.reads) - min(source.reads) > 40


def test_masks_of_0_and_1_are_refused_whatever_the_task_wants(tmp_path):
    write(tmp_path, 7)
    for path in (tmp_path / "masks").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) // 255).save(path)
    for white, positive in (("salient", "salient"), ("blur", "focus")):
        said = complaint(folder(tmp_path, white=white), positive)
        assert "hold 0 and 1, and a target is what is from 128 on" in said
        assert said.endswith("save them in 8 bits, with 255 in place of 1")
    assert "hold 0 and 1" in complaint(Spec("bokeh", str(tmp_path)), "blur")
    path = tmp_path / "masks/p03.png"
    Image.fromarray(np.asarray(Image.open(path)) * 100).save(path)
    assert "nothing in it is a subject" in complaint(Spec("bokeh", str(tmp_path)), "blur")
    _, mask = halves(3)
    Image.fromarray(mask).save(tmp_path / "masks/p03.png")  # the others may be faint, then
    assert len(open_source(folder(tmp_path), "salient")) == 7
