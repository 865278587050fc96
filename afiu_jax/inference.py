"""Maps of photos from a trained network: ``load("u2netp-dbd").predict("photo.jpg")``."""

import operator
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, overload

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float32, UInt8, UInt16
from PIL import Image

from afiu_jax.compilation import enable_compilation_cache
from afiu_jax.errors import UserError
from afiu_jax.maps import resize_map, to_8_bit, to_16_bit
from afiu_jax.networks import abstract_model, create_model
from afiu_jax.tiling import TILE, native_maps
from afiu_jax.training.predict_step import make_predict_step
from afiu_jax.training.saved import fill, filled_state
from afiu_jax.training.state import graph_in_use
from afiu_jax.weights import DEFAULTS, load_weights
from input_pipeline.paths import at_home
from input_pipeline.pictures import BROKEN, photo_pixels, read_photo
from input_pipeline.records import Meaning, Record
from input_pipeline.transforms import normalize, resize

Photo = str | Path | Image.Image | np.ndarray | jax.Array
"""A file, a Pillow image, or an array: ``[h, w]``, ``[h, w, 3]`` or ``[h, w, 4]`` of uint8, uint16 or floats in 0…1."""

Size = int | Literal["native"]
"""Side of the square that a photo is resized to, or its own size."""

LARGEST_SIZE = 4096
"""The largest such side, in pixels: 64 float32 channels take 4.3 GB there. ``native`` goes beyond, in tiles."""


def load(weights: str | Path = DEFAULTS["dbd"], *, size: Size | None = None, batch_size: int = 8) -> "Predictor":
    """A trained network, ready for photos.

    Args:
        weights: a name (``u2netp-dbd``: defocus blur, ``u2netp-sod``: salient objects), a file of ``afiu export`` or
            a run's work directory.
        size: see ``Predictor``.
        batch_size: photos that go through the network at once.

    Raises:
        UserError: nothing there that can be read, or a size that the network does not take.
    """
    return Predictor(weights, size=size, batch_size=batch_size, shrink_first=True)


def load_network(weights: str | Path = DEFAULTS["dbd"]) -> nnx.Module:
    """A trained network as a module, set for use: ``network(images).logits``, see ``Prediction``.

    It is as it was trained, and ``afiu_jax.weights.load_weights(weights).config`` says how: ``data`` how images are
    prepared (``input_pipeline.loader.Preparation.of``), ``task.positive`` what its logits mean. ``u2netp-dbd``'s are of
    what is in focus, which ``load`` turns round.

    Args:
        weights: as of ``load``.

    Raises:
        UserError: as of ``load``.
    """
    saved = load_weights(weights)
    model = create_model(saved.config["model"]["name"], **saved.config["model"]["options"])
    fill(model, saved)
    model.eval()
    return model


class Predictor:
    """A trained network with the preparation that it was trained with.

    Args:
        weights: see ``afiu_jax.weights.load_weights``.
        positive: what 1 shall mean in the maps; salient or blur, whatever the task is, unless told otherwise.
        size: side of the square that photos are resized to, the one of the training unless told; ``native``: no
            resizing, photos longer than ``tiling.TILE`` in tiles.
        batch_size: pictures that go through the network at once.
        shrink_first: photos longer than twice ``size`` are shrunk to that with antialiasing first, for networks whose
            own preparation has none (``data.antialias``). A plain resize would alias them beyond recognition of what
            is sharp; on photos of the size of the data sets it changes nothing.

    Attributes:
        path: what was read: the folder of a step, or a file.
        name: of the run or the weights, for tables.
        positive: what 1 means in the maps.
        config: the resolved configuration of the run.

    Raises:
        UserError: nothing there, a network that is not filled, a size or a meaning that it does not have, batches of
            nothing; by its methods, maps that are not finite.
    """

    def __init__(
        self,
        weights: str | Path,
        *,
        positive: Meaning | None = None,
        size: Size | None = None,
        batch_size: int = 8,
        shrink_first: bool = False,
    ):
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; it must be at least 1")
        saved = load_weights(weights)
        self.path, self.config, self.batch_size = saved.path, saved.config, batch_size
        self.name = self.path.parents[1].name if self.path.parent.name == "checkpoints" else self.path.stem
        trained = saved.config["task"]["positive"]
        self.positive: Meaning = positive or meaning_of_maps(saved.config)
        if "salient" in (trained, self.positive) and trained != self.positive:
            raise UserError(f"{self.path} marks what is {trained}, not {self.positive}: use other weights")
        name, options = saved.config["model"]["name"], saved.config["model"]["options"]
        model = abstract_model(name, **options)
        self.sizes = model.sizes
        self.size: Size = saved.config["data"]["image_size"] if size is None else checked_size(size)
        if self.size != "native":
            _require(self.sizes, self.size, name)
        self._shrink_first = shrink_first and not saved.config["data"]["antialias"]
        enable_compilation_cache()
        params, batch_stats = filled_state(model, saved)
        graph, filtered = graph_in_use(model, params)
        self._state = (params, batch_stats, filtered)
        self._predict = make_predict_step(graph, inverted=trained != self.positive)

    @property
    def about(self) -> str:
        """What made its maps and what they mean, for those who find one."""
        return f"network {self.name}, size {self.size}; maps: white = {self.positive}"

    @overload
    def predict(self, photos: Photo) -> Float32[np.ndarray, "h w"]: ...
    @overload
    def predict(self, photos: Sequence[Photo]) -> list[Float32[np.ndarray, "_h _w"]]: ...
    def predict(self, photos):
        """Maps in 0…1 at the photos' own sizes; what 1 means is ``positive``.

        Args:
            photos: one, or a list of them.

        Returns:
            A map, or a list of maps.

        Raises:
            UserError: a photo that cannot be read, an array that is no picture.
        """
        if isinstance(photos, list | tuple):
            records = (_record(photo, i) for i, photo in enumerate(photos))
            return [found for _, found in self._float_maps(records)]
        return next(self._float_maps(iter([_record(photos, 0)])))[1]

    def maps(
        self, records: Iterable[Record], *, bits: Literal[8, 16] = 8
    ) -> Iterator[tuple[Record, UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]]]:
        """Each record with its map, 0–255 (0–65535 for 16 bits), at the record's own size, in order."""
        quantise = to_8_bit if bits == 8 else to_16_bit
        for record, found in self._float_maps(records):
            yield record, quantise(found)

    def _float_maps(self, records: Iterable[Record]) -> Iterator[tuple[Record, Float32[np.ndarray, "h w"]]]:
        if self.size == "native":
            for batch in _equal_shapes(records, self.batch_size):
                images = np.stack([normalize(r["image"], self.config["data"]["normalize"]) for r in batch])
                yield from zip(batch, native_maps(self._run, images, self.sizes), strict=True)
            return
        records = iter(records)
        while batch := list(islice(records, self.batch_size)):
            found = self._run(np.stack([self._prepare(r["image"]) for r in batch]))
            for record, small in zip(batch, found, strict=True):
                yield record, resize_map(small, record["image"].shape[:2])

    def _prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "n n 3"]:
        data = self.config["data"]
        longest = max(image.shape[:2])
        if self._shrink_first and longest > 2 * self.size:
            # The shorter side of a panorama not below what the network sees: enlarged again, it would be blurred.
            least = [min(side, self.size) for side in image.shape[:2]]
            shrunk = [round(side * 2 * self.size / longest) for side in image.shape[:2]]
            image = resize(image, (max(shrunk[0], least[0]), max(shrunk[1], least[1])), antialias=True)
        image = resize(image, (self.size, self.size), antialias=data["antialias"])
        return np.ascontiguousarray(normalize(image, data["normalize"]))

    def _run(self, images: Float32[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n h w"]:
        """Filled up with empty pictures to a power of two, so that few shapes are compiled."""
        count = len(images)
        missing = (1 << (count - 1).bit_length()) - count
        images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.float32)])
        found = np.asarray(self._predict(*self._state, images))[:count, ..., 0]
        if not np.isfinite(found).all():  # in 8 bits they would be black
            raise UserError(
                f"the maps of {self.name} are not finite: its weights are beyond bounds; name another checkpoint"
            )
        return found


def meaning_of_maps(config: dict) -> Meaning:
    """What 1 means in a network's maps unless told: salient, or blur whether it was trained on blur or on focus."""
    return "salient" if config["task"]["positive"] == "salient" else "blur"


def checked_size(size: object) -> Size:
    """A size that was asked for, as it is.

    Raises:
        UserError: neither ``native`` nor a whole number in 1…``LARGEST_SIZE``.
    """
    if size == "native":
        return size
    side = operator.index(size) if hasattr(size, "__index__") and not isinstance(size, bool) else 0
    if not 1 <= side <= LARGEST_SIZE:
        raise UserError(f"size is {size!r}: give a number of pixels up to {LARGEST_SIZE}, such as 320, or native")
    return side


def _require(sizes, side: int, name: str) -> None:
    try:
        sizes.require((side, side), name)
    except ValueError as error:
        raise UserError(str(error)) from None


def _equal_shapes(records: Iterable[Record], batch_size: int) -> Iterator[list[Record]]:
    """Successive records of one shape, as many as fit into a batch; those that need tiles one by one."""
    batch: list[Record] = []
    for record in records:
        shape = record["image"].shape
        if batch and (shape != batch[0]["image"].shape or len(batch) == batch_size or max(shape) > TILE):
            yield batch
            batch = []
        batch.append(record)
    if batch:
        yield batch


def _record(photo: Photo, index: int) -> Record:
    image = _as_pixels(photo)
    return {"image": image, "mask": np.zeros(image.shape[:2], np.uint8), "id": str(index)}


def _as_pixels(photo: Photo) -> UInt8[np.ndarray, "h w 3"]:
    if isinstance(photo, str | Path):
        try:
            return read_photo(at_home(photo))
        except BROKEN as error:
            raise UserError(f"cannot read {photo}: {error}") from error
    if isinstance(photo, Image.Image):
        try:
            return photo_pixels(photo)
        except BROKEN as error:  # Pillow decodes a file when its pixels are first asked for
            raise UserError(f"cannot read the picture: {error}") from error
    array = np.asarray(photo)
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise UserError(f"a photo is an array [h, w], [h, w, 3] or [h, w, 4], not one of shape {array.shape}")
    if array.dtype == np.uint16:
        array = array / np.float32(65535)
    if jnp.issubdtype(array.dtype, jnp.floating):  # bfloat16 included
        array = array.astype(np.float32)
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise UserError("a photo of floating-point numbers has them in 0…1: divide by the largest possible value")
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise UserError(f"a photo is an array of uint8, uint16 or floats in 0…1, not of {array.dtype}")
    return photo_pixels(Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array))
