import threading
import time
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from input_pipeline.loader import Preparation, eval_batches, train_batches
from input_pipeline.records import DataError
from input_pipeline.skipping import Skipping
from input_pipeline.transforms import Augment, resize

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
SMALL = Preparation((6, 8))
PLAIN = Augment(vertical_flip=0.0, horizontal_flip=0.0, color_jitter=0.0)
LIVELY = Augment(vertical_flip=0.5, horizontal_flip=0.5, color_jitter=0.3)


class Noise:
    """Random pictures; the id is the index. Notes what is read, and may be slow or broken at some."""

    white = "blur"

    def __init__(self, length, shape=(6, 8), slow=False, broken=None):
        self.length, self.shape, self.slow, self.broken = length, shape, slow, broken
        self.reads, self.lock = [], threading.Lock()

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        with self.lock:
            self.reads.append(index)
        if index == self.broken:
            raise DataError(f"cannot read picture {index}: replace the file")
        if self.slow:
            time.sleep((index * 7 % 4) / 1000)
        random = np.random.default_rng(index)
        image = random.integers(0, 256, (*self.shape, 3), dtype=np.uint8)
        return {"image": image, "mask": random.integers(0, 256, self.shape, dtype=np.uint8), "id": str(index)}


def stream(source, steps, **options):
    """The first batches of training."""
    options = {"batch_size": 4, "augment": LIVELY, "seed": 0} | options
    preparation = options.pop("preparation", SMALL)
    return list(islice(train_batches(source, preparation, **options), steps))


def ids(batches):
    return [batch["id"] for batch in batches]


def names_in(batches):
    return [name for batch in batches for name in batch["id"]]


def same(a, b):
    return a["id"] == b["id"] and all(np.array_equal(a[key], b[key]) for key in ("image", "mask", "weight"))


def standardized(record):
    return (record["image"] / 255 - MEAN) / STD


def test_batches_have_the_network_s_shapes_and_types():
    for batch in stream(Noise(10, shape=(13, 21)), 3, batch_size=5, preparation=Preparation((7, 9))):
        assert set(batch) == {"image", "mask", "weight", "id", "skipped"}
        assert batch["image"].shape == (5, 7, 9, 3)
        assert batch["mask"].shape == (5, 7, 9, 1)
        assert batch["weight"].tolist() == [1.0] * 5
        assert {batch[key].dtype for key in ("image", "mask", "weight")} == {np.dtype(np.float32)}
        assert set(np.unique(batch["mask"])) == {0.0, 1.0}
        assert len(batch["id"]) == 5
        assert all(isinstance(name, str) for name in batch["id"])


def test_without_augmentation_a_batch_holds_the_records():
    source = Noise(7)
    for batch in stream(source, 5, augment=PLAIN):
        for image, mask, name in zip(batch["image"], batch["mask"], batch["id"], strict=True):
            record = source[int(name)]
            assert np.abs(image - standardized(record)).max() < 1e-5
            assert np.array_equal(mask[..., 0], record["mask"] >= 128)


def test_augmentation_flips_image_and_mask_together():
    source, seen = Noise(8), set()
    augment = Augment(vertical_flip=0.5, horizontal_flip=0.5, color_jitter=0.0)
    for batch in stream(source, 12, augment=augment):
        for image, mask, name in zip(batch["image"], batch["mask"], batch["id"], strict=True):
            record = source[int(name)]
            for v, h in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                if np.array_equal(mask[..., 0], record["mask"][::v, ::h] >= 128):
                    assert np.abs(image - standardized(record)[::v, ::h]).max() < 1e-5
                    seen.add((v, h))
                    break
            else:
                pytest.fail(f"the mask of {name} is none of the record's flips")
    assert len(seen) == 4


def test_the_normalization_and_the_antialiasing_asked_for_are_used():
    source = Noise(4, shape=(24, 32))
    caffe = stream(source, 1, augment=PLAIN, preparation=Preparation((24, 32), "bgr255"))[0]
    record = source[int(caffe["id"][0])]
    assert np.abs(caffe["image"][0, ..., 2] - record["image"][..., 0]).max() == 0
    assert caffe["image"].flags.c_contiguous
    sampled, smooth = (
        next(eval_batches(source, Preparation((6, 8), antialias=a), batch_size=4)) for a in (False, True)
    )
    assert smooth["image"].std() < 0.7 * sampled["image"].std()
    assert np.array_equal(smooth["mask"], sampled["mask"])


def test_a_mask_is_resized_before_it_is_thresholded():
    source = Noise(1, shape=(12, 16))
    batch = next(eval_batches(source, SMALL, batch_size=1))
    assert np.array_equal(batch["mask"][0, ..., 0], resize(source[0]["mask"], (6, 8)) >= 128)
    # Half of the size: a new pixel is the mean of four.
    means = source[0]["mask"].reshape(6, 2, 8, 2).mean(axis=(1, 3))
    clear = np.abs(means - 127.5) > 1
    assert np.array_equal(batch["mask"][0, ..., 0][clear], means[clear] > 127.5)


@pytest.mark.parametrize("start", [1, 4, 7, 13])
def test_a_later_start_is_the_tail_of_the_whole_stream(start):
    source = Noise(10)
    whole = stream(source, 16)
    tail = stream(source, 16 - start, start_step=start)
    assert all(same(a, b) for a, b in zip(whole[start:], tail, strict=True))


def test_a_late_start_reads_nothing_of_what_it_passes_over():
    source = Noise(10)
    stream(source, 1, start_step=100_000, workers=1)
    assert len(source.reads) <= 4 * (1 + 2 + 1)  # the batch, two prefetched ones, and one in the making


def test_the_same_seed_gives_the_same_stream_and_another_one_another():
    source = Noise(40)
    first, again, other = stream(source, 10), stream(source, 10), stream(source, 10, seed=1)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert ids(first) != ids(other)
    assert sorted(names_in(first)) == sorted(names_in(other))


def test_records_are_shuffled():
    order = [int(name) for name in names_in(stream(Noise(40), 10))]
    assert order != sorted(order)
    # Of 40 shuffled records about one stays in place, and neighbours are about 13 apart.
    assert sum(place == index for place, index in enumerate(order)) < 8
    assert np.abs(np.diff(order)).mean() > 5


@settings(max_examples=12, deadline=None)
@given(batch_size=st.integers(2, 5), per_epoch=st.integers(2, 6), seed=st.integers(0, 2**31))
def test_every_epoch_holds_every_record_once(batch_size, per_epoch, seed):
    length = batch_size * per_epoch
    batches = stream(Noise(length), 3 * per_epoch, batch_size=batch_size, seed=seed, augment=PLAIN)
    for epoch in range(3):
        once = names_in(batches[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert sorted(once, key=int) == [str(i) for i in range(length)]


def test_a_batch_may_hold_one_record():
    source = Noise(5)
    batches = stream(source, 10, batch_size=1)
    assert {batch["image"].shape for batch in batches} == {(1, 6, 8, 3)}
    names = names_in(batches)
    assert sorted(names[:5]) == sorted(names[5:]) == ["0", "1", "2", "3", "4"]
    assert all(same(a, b) for a, b in zip(batches[3:], stream(source, 7, batch_size=1, start_step=3), strict=True))


def test_epochs_differ_in_order_and_augmentation():
    source, epochs = Noise(12), 4
    batches = stream(source, 3 * epochs)
    names = names_in(batches)
    assert len({tuple(names[12 * e : 12 * (e + 1)]) for e in range(epochs)}) == epochs
    views = {}
    for batch in batches:
        for name, image in zip(batch["id"], batch["image"], strict=True):
            views.setdefault(name, set()).add(image.tobytes())
    assert all(len(pictures) == epochs for pictures in views.values())


def test_a_length_that_the_batch_does_not_divide_loses_no_record():
    names = names_in(stream(Noise(10), 5))  # two epochs in five batches of four
    assert sorted(names[:10], key=int) == sorted(names[10:], key=int) == [str(i) for i in range(10)]


def test_a_source_smaller_than_a_batch_is_repeated():
    for batch in stream(Noise(3), 3, batch_size=6):
        assert sorted(batch["id"]) == ["0", "0", "1", "1", "2", "2"]


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("start", [0, 5])
def test_processes_share_every_global_batch_of_one(processes, start):
    source = Noise(10)
    alone = stream(source, 8, start_step=start)
    shares = [stream(source, 8, start_step=start, process_index=i, process_count=processes) for i in range(processes)]
    for step, whole in enumerate(alone):
        parts = [share[step] for share in shares]
        assert [len(part["id"]) for part in parts] == [4 // processes] * processes
        # End to end, as their devices hold them: accumulation and normalisation in groups go by the order.
        assert [name for part in parts for name in part["id"]] == whole["id"]
        for key in ("image", "mask"):
            np.testing.assert_array_equal(np.concatenate([part[key] for part in parts]), whole[key])


@pytest.mark.parametrize("workers", [0, 1, 3, 8])
def test_the_number_of_workers_changes_nothing(workers):
    source = Noise(10, slow=True)
    for a, b in zip(stream(source, 8), stream(source, 8, workers=workers), strict=True):
        assert same(a, b)
    expected = list(eval_batches(source, SMALL, batch_size=4))
    for a, b in zip(expected, eval_batches(source, SMALL, batch_size=4, workers=workers), strict=True):
        assert same(a, b)


@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 13), batch_size=st.integers(1, 6), workers=st.integers(0, 3))
def test_evaluation_sees_every_record_once_and_in_order(length, batch_size, workers):
    source = Noise(length)
    batches = list(eval_batches(source, SMALL, batch_size=batch_size, workers=workers))
    assert len(batches) == -(-length // batch_size)
    padding = len(batches) * batch_size - length
    names = names_in(batches)
    assert names == [str(i) for i in range(length)] + [""] * padding
    weights = np.concatenate([batch["weight"] for batch in batches])
    assert weights.tolist() == [1.0] * length + [0.0] * padding
    images, masks = (np.concatenate([batch[key] for batch in batches]) for key in ("image", "mask"))
    assert all(batch["image"].shape == (batch_size, 6, 8, 3) for batch in batches)
    assert all(batch["mask"].shape == (batch_size, 6, 8, 1) for batch in batches)
    assert {images.dtype, masks.dtype, weights.dtype} == {np.dtype(np.float32)}
    for index in range(length):
        record = source[index]
        assert np.abs(images[index] - standardized(record)).max() < 1e-5
        assert np.array_equal(masks[index, ..., 0], record["mask"] >= 128)
    assert not images[length:].any()
    assert not masks[length:].any()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_record_reaches_the_caller_as_it_is(workers):
    source = Noise(8, broken=5)
    with pytest.raises(DataError) as caught:
        stream(source, 2, workers=workers)
    assert str(caught.value) == "cannot read picture 5: replace the file"
    batches = eval_batches(source, SMALL, batch_size=2, workers=workers)
    assert next(batches)["id"] == ["0", "1"]
    with pytest.raises(DataError) as caught:
        list(batches)
    assert str(caught.value) == "cannot read picture 5: replace the file"


def test_what_stands_in_for_a_record_is_named_and_has_no_weight_in_evaluation():
    source = Skipping(Noise(8, broken=5))
    reason = "cannot read picture 5: replace the file"
    batches = list(eval_batches(source, SMALL, batch_size=3))
    assert names_in(batches) == ["0", "1", "2", "3", "4", "6", "6", "7", ""]
    assert [batch["weight"].tolist() for batch in batches] == [[1, 1, 1], [1, 1, 0], [1, 1, 0]]
    assert [batch["skipped"] for batch in batches] == [[], [reason], []]


def test_skipping_keeps_the_order_of_all_other_records_and_a_later_start_is_the_tail():
    whole, broken = stream(Noise(8), 6), stream(Skipping(Noise(8, broken=5)), 6)
    for a, b in zip(whole, broken, strict=True):
        assert ["6" if name == "5" else name for name in a["id"]] == b["id"]
        assert len(b["skipped"]) == a["id"].count("5")
    tail = stream(Skipping(Noise(8, broken=5)), 4, start_step=2)
    assert all(same(a, b) and a["skipped"] == b["skipped"] for a, b in zip(broken[2:], tail, strict=True))
