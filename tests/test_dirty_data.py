"""Faults made on purpose in a folder of pairs: never a traceback, never a pair that is silently wrong.

Every case is a folder of four good pairs and one that has a fault. Stopping names the fault in one line; skipping
gives the good pairs as they are, and the faulty one not at all. What only looks odd (a name, a format) is read as it is
meant.
"""

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_folder import encoded, noise, ramp

from input_pipeline.records import DataError
from input_pipeline.skipping import Skipping
from input_pipeline.sources import Spec, open_source
from input_pipeline.tfds_source import TfdsSource

MASK = np.where(np.arange(15) < 6, np.uint8(255), np.zeros((12, 15), np.uint8))
SEEDS = 40


def truncated(image, mask, draw):
    file = draw.choice([image, mask])
    content = file.read_bytes()
    file.write_bytes(content[: draw.randrange(1, 3 * len(content) // 4)])


def zeroed(image, mask, draw):
    """The size is right and the content is not, as after a crash of a file system."""
    file = draw.choice([image, mask])
    file.write_bytes(bytes(file.stat().st_size))


def empty(image, mask, draw):
    draw.choice([image, mask]).write_bytes(b"")


def text(image, mask, draw):
    draw.choice([image, mask]).write_text("<html>404 not found</html>" * draw.randrange(1, 50))


def swapped(image, mask, draw):
    photo, grey = image.read_bytes(), mask.read_bytes()
    image.write_bytes(grey)
    mask.write_bytes(photo)


def other_size(image, mask, draw):
    h, w = draw.choice([(12, 14), (15, 12), (1, 1), (24, 30)])
    file = draw.choice([image, mask])
    file.write_bytes(encoded(ramp(h, w) if file == image else np.zeros((h, w), np.uint8), "png"))


def twice(image, mask, draw):
    file = draw.choice([image, mask])
    file.with_suffix(draw.choice([".jpg", ".PNG", ".bmp"])).write_bytes(file.read_bytes())


def alone(image, mask, draw):
    draw.choice([image, mask]).unlink()


def loop(image, mask, draw):
    file = draw.choice([image, mask])
    file.unlink()
    other = file.with_name("other.link")
    file.symlink_to(draw.choice([file, other, file.parent / "nowhere.png"]))
    other.symlink_to(file)


def directory(image, mask, draw):
    file = draw.choice([image, mask])
    file.unlink()
    file.mkdir()


def pipe(image, mask, draw):
    file = draw.choice([image, mask])
    file.unlink()
    os.mkfifo(file)


def floats(image, mask, draw):
    file = draw.choice([image, mask])
    file.unlink()
    Image.fromarray(MASK.astype(np.float32) / 255).save(file.with_suffix(".tif"))


def no_text(image, mask, draw):
    for file in (image, mask):
        os.rename(bytes(file), bytes(file.parent) + b"/\xff\xfe.png")  # noqa: PTH104 - a Path is text


FAULTS = [
    *(truncated, zeroed, empty, text, swapped, other_size, twice, alone, loop, directory, pipe, floats, no_text),
]


def extension(image, mask, draw):
    image.rename(image.with_suffix(draw.choice([".jpg", ".bmp", ".TIF", ".webp"])))


def cmyk(image, mask, draw):
    image.unlink()
    Image.fromarray(255 - np.dstack([ramp(phase=9), np.full((12, 15), 255, np.uint8)]), "CMYK").save(
        image.with_suffix(".tif")
    )


def deep(image, mask, draw):
    Image.fromarray(MASK.astype(np.uint16) * 257).save(mask)


def unicode(image, mask, draw):
    name = draw.choice(["größe", "写真", "🌄", "two words", "a'b\"c", "[x:1]", "%s{0}", "~", "-rf"])
    for file in (image, mask):
        file.rename(file.with_name(f"{name}.png"))


def long_name(image, mask, draw):
    name = "x" * draw.randrange(200, 252)
    for file in (image, mask):
        file.rename(file.with_name(f"{name}.png"))


ODD = [extension, cmyk, deep, unicode, long_name]


def pairs(root, fault, seed):
    """Five pairs, the one in the middle with the fault."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(5):
        (root / "images" / f"{number}.png").write_bytes(encoded(ramp(phase=9) if number == 2 else photo(number), "png"))
        (root / "masks" / f"{number}.png").write_bytes(encoded(MASK, "png"))
    fault(root / "images" / "2.png", root / "masks" / "2.png", random.Random(seed))
    return Spec("folder", str(root))


def photo(number):
    return noise(12, 15, seed=number)


def good_pairs_of(source):
    """Ids of the records, each of which is what was written, or stands in for one that cannot be read."""
    found = []
    for index in range(len(source)):
        record = source[index]
        assert np.array_equal(record["image"], photo(int(record["id"])))
        assert np.array_equal(record["mask"], MASK)
        if "stands_in_for" not in record:
            found.append(record["id"])
    return found


def read_all(spec):
    source = open_source(spec, "salient")
    return [source[index] for index in range(len(source))]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_when_stopping_and_left_out_when_skipping(tmp_path, fault):
    for seed in range(SEEDS):
        spec = pairs(tmp_path / str(seed), fault, seed)
        with pytest.raises(DataError) as caught:
            read_all(spec)
        assert "\n" not in str(caught.value)
        assert str(tmp_path / str(seed)) in str(caught.value)
        faults = {}
        source = open_source(spec, "salient", faults=faults)
        assert good_pairs_of(source) == ["0", "1", "3", "4"], (seed, faults)
        assert bool(faults) == (len(source) == 4)
        assert all("\n" not in reason for reason in faults.values())
        shutil.rmtree(tmp_path / str(seed))


@pytest.mark.parametrize("odd", ODD)
def test_what_only_looks_odd_is_read_as_it_is_meant(tmp_path, odd):
    for seed in range(SEEDS):
        spec, faults = pairs(tmp_path / str(seed), odd, seed), {}
        records = read_all(spec)
        skipping = open_source(spec, "salient", faults=faults)
        assert (len(records), len(skipping), faults) == (5, 5, {})
        (record,) = (r for r in records if r["id"] not in ("0", "1", "3", "4"))
        assert np.abs(record["image"].astype(int) - ramp(phase=9)).max() <= 1
        assert np.array_equal(record["mask"], MASK)
        shutil.rmtree(tmp_path / str(seed))


def test_a_folder_of_nothing_but_faults_is_refused_in_either_case(tmp_path):
    spec = pairs(tmp_path, alone, 0)
    for number in range(5):
        (tmp_path / "masks" / f"{number}.png").write_bytes(b"")
    for faults in (None, {}):
        with pytest.raises(DataError, match="png"):
            open_source(spec, "salient", faults=faults)


@pytest.mark.parametrize("fault", [truncated, zeroed, empty, text, swapped, other_size])
def test_records_of_tfds_are_held_to_the_same(tmp_path, fault):
    for seed in range(SEEDS):
        spec = pairs(tmp_path / str(seed), fault, seed)
        root = Path(spec.path)
        files = [(root / "images" / f"{number}.png", root / "masks" / f"{number}.png") for number in range(5)]
        examples = [
            {"image": image.read_bytes(), "mask": mask.read_bytes(), "id": image.stem.encode()} for image, mask in files
        ]
        source = TfdsSource(examples, "salient")
        with pytest.raises(DataError, match="record 2") as caught:
            source[2]
        assert "\n" not in str(caught.value)
        assert good_pairs_of(Skipping(source)) == ["0", "1", "3", "4"]


class Broken:
    """Records 1 and 2 of four cannot be read."""

    white = "blur"

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index in (1, 2):
            raise DataError(f"record {index} is broken")
        return {"image": np.zeros((2, 2, 3), np.uint8), "mask": np.zeros((2, 2), np.uint8), "id": str(index)}


def test_the_next_record_that_can_be_read_stands_in():
    source = Skipping(Broken())
    assert (source.white, len(source)) == ("blur", 4)
    assert [source[i]["id"] for i in range(4)] == ["0", "3", "3", "3"]
    assert [source[i].get("stands_in_for") for i in range(4)] == [
        *(None, "record 1 is broken", "record 2 is broken", None)
    ]


def test_nothing_that_can_be_read_is_an_error():
    class AllBroken(Broken):
        def __getitem__(self, index):
            raise DataError(f"record {index} is broken")

    with pytest.raises(DataError, match="none of the 4 records can be read: record 3 is broken"):
        Skipping(AllBroken())[3]
