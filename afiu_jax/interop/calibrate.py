"""The statistics of batch normalisations that an exporter folded away, recovered from photos.

A network with folded normalisations evaluates well but cannot be trained: normalising by a batch's own statistics
would undo what was folded. Its convolutions already give the normalised values, so the mean and the variance of those
values over photos are what a normalisation in training would have to take out and put back:

    y = x = (x − mean) / sqrt(var + eps) · sqrt(var + eps) + mean

which leaves evaluation as it is and lets a batch's own statistics stand in for mean and var.
"""

from collections.abc import Collection, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32

from afiu_jax.batch_norm import BatchNorm
from afiu_jax.moments import pool


class InputMoments(nnx.Variable):
    """Mean and variance of what a normalisation was last given, ``[2, c]``."""


class Recorder(nnx.Module):
    """A normalisation that also records the moments of its input over all axes but the last."""

    def __init__(self, norm: BatchNorm):
        self.norm = norm
        self.moments = InputMoments(jnp.zeros((2, norm.num_features)))

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        """What the normalisation makes of ``x``."""
        wide, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
        mean = wide.mean(axes)
        self.moments.set_value(jnp.stack([mean, jnp.square(wide - mean).mean(axes)]))
        return self.norm(x)


def calibrate(model: nnx.Module, norms: Collection[str], images: Iterable[Float[np.ndarray, "h w 3"]]) -> int:
    """Gives normalisations the statistics of images, in place, such that the network evaluates as before.

    Args:
        model: the network.
        norms: dotted paths of the normalisations.
        images: normalised as the network takes them, all of one size; statistics are exact over all of their pixels.

    Returns:
        Number of images.
    """
    union, count = pool(_moments(model, norms, images))
    for path, (mean, var) in union.items():
        _refit(_at(model, path), mean, var)
    return count


def _moments(
    model: nnx.Module, norms: Collection[str], images: Iterable[Float[np.ndarray, "h w 3"]]
) -> Iterator[dict[str, Float[Array, "2 c"]]]:
    """Moments of the input of every normalisation, image by image."""
    recording = nnx.clone(model)
    recording.eval()
    for path in norms:
        parent, _, last = path.rpartition(".")
        _put(_at(recording, parent), last, Recorder(_at(recording, path)))
    graph, state = nnx.split(recording)

    @jax.jit
    def run(state: nnx.State, image: Float[Array, "h w 3"]) -> dict[str, Float[Array, "2 c"]]:
        network = nnx.merge(graph, state, copy=True)
        network(image[None])
        return {path: _at(network, path).moments[...] for path in norms}

    for image in images:
        yield run(state, image)


def _refit(norm: BatchNorm, mean: Float[np.ndarray, " c"], var: Float[np.ndarray, " c"]) -> None:
    """New statistics for a normalisation, whose scale and shift make up for them."""
    old = {leaf: np.asarray(getattr(norm, leaf)[...]) for leaf in ("scale", "bias", "mean", "var")}
    gain = old["scale"] * _inverse_deviation(old["var"], norm.epsilon)
    var, scale = _with_gain(gain, var, norm.epsilon)
    new = {"scale": scale, "bias": old["bias"] + gain * (mean - old["mean"]), "mean": mean, "var": var}
    for leaf, value in new.items():
        getattr(norm, leaf)[...] = jnp.asarray(value, jnp.float32)


def _with_gain(
    gain: Float32[np.ndarray, " c"], var: Float[np.ndarray, " c"], epsilon: float
) -> tuple[Float32[np.ndarray, " c"], Float32[np.ndarray, " c"]]:
    """Variance and scale with ``scale / sqrt(var + epsilon) = gain``, as float32 computes it.

    Rounded each for itself, they miss the gain by the last digit, and a hundred layers make of that 1e-5 in a map. So
    the nearest variance is taken, within four units of the last place, that has such a scale.
    """
    steps = np.array([0, 1, -1, 2, -2, 3, -3, 4, -4])[:, None]
    near = np.float32(var + steps * np.spacing(np.float32(var + epsilon))).clip(0)
    inverse = _inverse_deviation(near, epsilon)
    scale = np.float32(gain / np.asarray(inverse, np.float64))
    scales = np.stack([scale, np.nextafter(scale, np.float32(np.inf)), np.nextafter(scale, np.float32(-np.inf))])
    error = abs(scales * inverse - gain).reshape(-1, len(var))
    best = error.argmin(axis=0), np.arange(len(var))
    return np.broadcast_to(near, scales.shape).reshape(error.shape)[best], scales.reshape(error.shape)[best]


@jax.jit
def _rsqrt(x: Float[Array, "*c"]) -> Float[Array, "*c"]:
    return jax.lax.rsqrt(x)


def _inverse_deviation(var: Float[np.ndarray, "*c"], epsilon: float) -> Float32[np.ndarray, "*c"]:
    """As a normalisation computes it on this machine."""
    return np.asarray(_rsqrt(np.float32(var) + np.float32(epsilon)))


def _at(module: nnx.Module, path: str):
    """The sub-module at a dotted path; numbers index lists, and dictionaries answer to names."""
    for part in filter(None, path.split(".")):
        module = module[int(part)] if part.isdigit() else getattr(module, part)
    return module


def _put(parent: nnx.Module, part: str, module: nnx.Module) -> None:
    if part.isdigit():
        parent[int(part)] = module
    else:
        setattr(parent, part, module)
