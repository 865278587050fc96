"""Where the arrays of a run live: batches split over all devices, everything else on each of them.

There is one mesh axis, ``data``, over the devices of all processes. A step is one program over that mesh, so its sums
and means, those of batch normalisation too, are over the whole batch, whatever the number of devices.
"""

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from afiu_jax.errors import UserError
from afiu_jax.training.schema import Resolved
from afiu_jax.training.state import TrainState
from input_pipeline.loader import Batch


def mesh() -> Mesh:
    """All devices of all processes, along ``data``."""
    return Mesh(np.asarray(jax.devices()), ("data",))


def replicated() -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh(), PartitionSpec())


def split() -> NamedSharding:
    """The first axis divided among the devices."""
    return NamedSharding(mesh(), PartitionSpec("data"))


def on_every_device(state: TrainState) -> TrainState:
    """A state that every process has, whole on each device; with one process its arrays may be the same ones."""
    if jax.process_count() == 1:
        return jax.device_put(state, replicated())

    def whole(array: jax.Array) -> jax.Array:
        # device_put would gather each array from all processes first, to see that they are equal.
        value = np.asarray(array)
        return jax.make_array_from_callback(value.shape, replicated(), value.__getitem__)

    return jax.tree.map(whole, state)


def on_devices(batch: Batch) -> tuple[Array, Array]:
    """Images and masks of this process's part of a batch, as parts of the global arrays, split over the devices."""
    return tuple(jax.make_array_from_process_local_data(split(), batch[key]) for key in ("image", "mask"))


def spread(whole: Float[np.ndarray, "b ..."]) -> Float[Array, "b ..."]:
    """A batch that every process has whole, split over the devices if they can share it equally, else on each."""
    sharding = replicated() if len(whole) % jax.device_count() else split()
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def fetch(array: Float[Array, "..."] | Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The whole of a global array on the host, in every process."""
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def shared_equally(size: int) -> int:
    """The next batch size that all devices can share equally, for batches that may be filled up."""
    return -(-size // jax.device_count()) * jax.device_count()


def check_batch(config: Resolved) -> None:
    """Refuses a batch that the devices, and the parts that are accumulated on each, cannot share equally.

    Raises:
        UserError: ``train.batch_size`` does not divide.
    """
    size, parts, devices = config["train"]["batch_size"], config["train"]["accumulate"], jax.device_count()
    if size % (shares := devices * parts):
        times = f" times train.accumulate={parts}" if parts > 1 else ""
        nearest = max(shares, size // shares * shares)
        raise UserError(
            f"train.batch_size is {size}; it must be a multiple of the {devices} devices{times}: "
            f"set it to {nearest} or {nearest + shares}"
        )


def describe_devices() -> str:
    """Number and kind of the devices: ``8 x NVIDIA A100-SXM4-40GB``."""
    kinds = [device.device_kind for device in jax.devices()]
    return ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))
