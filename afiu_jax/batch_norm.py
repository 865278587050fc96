"""Batch normalisation with PyTorch's constants, over the whole batch or over groups of it."""

from collections import Counter
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from afiu_jax.initializers import Constant, Streams, declare
from afiu_jax.normalisation import Way, normalise

SUM = "sum of convolutions"
"""Name of what batch normalisation is given as such, for policies of ``jax.checkpoint``."""


class SingleValueError(ValueError):
    """Statistics are asked for of one value of each channel: the result is the bias, whatever the image."""


class BatchNorm(nnx.BatchNorm):
    """Batch normalisation over all axes but the last, with PyTorch's constants.

    Its momentum 0.1 is 0.9 here; epsilon is 1e-5. The running variance is the biased one, where PyTorch keeps the
    unbiased one.

    The parent's own update writes its statistics by index, which makes tracing a network quadratic in its depth:
    half of the time to the first step.

    The statistics are those of the whole batch, over all devices. With ``groups`` above 1, each of so many equal parts
    of the batch is normalised by its own, and the running ones average theirs: as many as there are devices do without
    communication.

    ``folded``: scale and bias are those that ``fold`` gives, and the statistics are not looked at.

    ``way``: how statistics are computed, see ``normalisation``.
    """

    def __init__(self, features: int, *, bias_value: float = 0.0, frozen: bool = False, **options):
        super().__init__(features, bias_init=Constant(bias_value), **options)
        for variable, value in ((self.scale, 1.0), (self.bias, bias_value), (self.mean, 0.0), (self.var, 1.0)):
            if variable is not None:
                declare(variable, Constant(value))
        self.frozen = frozen
        self.groups = 1
        self.folded = False
        self.way: Way = "two passes"

    def __call__(self, x: Float[Array, "... c"], *, is_sum: bool = False) -> Float[Array, "... c"]:
        """Normalised by the batch's statistics in training, by the running ones in use.

        ``is_sum``: ``x`` is a sum of convolutions, so that keeping it for the gradient keeps less than its parts.

        Raises:
            SingleValueError: in training, one image of one pixel.
        """
        if self.folded:
            return (x * self.scale[...] + self.bias[...]).astype(self.dtype)
        if self.use_running_average or self.frozen:
            scale = self.scale[...] * jax.lax.rsqrt(self.var[...] + self.epsilon)
            return (x * scale + (self.bias[...] - self.mean[...] * scale)).astype(self.dtype)
        if x.size == self.groups * x.shape[-1]:
            raise SingleValueError("batch normalisation has one value of each channel to take statistics of")
        if is_sum:
            x = checkpoint_name(x, SUM)
        if self.groups > 1:
            parts = x.reshape(self.groups, -1, *x.shape[1:])
            normalised, mean, var = jax.vmap(self._by_its_own)(parts)
            normalised, mean, var = normalised.reshape(x.shape), mean.mean(0), var.mean(0)
        else:
            normalised, mean, var = self._by_its_own(x)
        for running, value in ((self.mean, mean), (self.var, var)):
            old = running.get_value()
            running.set_value(self.momentum * old + (1 - self.momentum) * jax.lax.stop_gradient(value))
        return normalised

    def _by_its_own(self, x: Array) -> tuple[Array, Array, Array]:
        """Normalised by its own statistics, and these."""
        return normalise(x, self.scale[...], self.bias[...], self.epsilon, jnp.dtype(self.dtype), self.way)


def fold(model: nnx.Module, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Takes running statistics into scale and bias, so that batch normalisation in use is one product and one sum.

    Args:
        model: the network, abstract or not, whose normalisations are set to expect such values, in place.
        values: all its arrays by dotted path.

    Returns:
        The values, with other scales and biases. Those of normalisations that share some stay as they are.
    """
    folded, parts = dict(values), ("scale", "bias", "mean", "var")
    norms = [(path, module) for path, module in nnx.iter_modules(model) if isinstance(module, BatchNorm)]
    users = Counter(id(getattr(module, part)) for _, module in norms for part in parts)
    for path, module in norms:
        if all(users[id(getattr(module, part))] == 1 for part in parts):
            name = ".".join(map(str, path))
            scale, bias, mean, var = (values[f"{name}.{part}"] for part in parts)
            folded[f"{name}.scale"] = scale / np.sqrt(var + np.float32(module.epsilon))
            folded[f"{name}.bias"] = bias - mean * folded[f"{name}.scale"]
            module.folded = True
    return folded


def identities(model: nnx.Module) -> tuple[str, ...]:
    """Dotted paths of the normalisations whose statistics change nothing, as what another program's export folded has.

    Such a network can be used, but training would normalise by the batch where nothing was normalised. Weights alone
    tell, through whatever files they have gone: one that was trained, or has its initial values, has another variance.
    """
    return tuple(
        ".".join(map(str, path))
        for path, module in nnx.iter_modules(model)
        if isinstance(module, BatchNorm)
        and not np.any(module.mean[...])
        and np.all(np.asarray(module.var[...]) == np.float32(1 - module.epsilon))
    )


def batch_norm(
    features: int, *, bias_value: float = 0.0, frozen: bool = False, dtype: str = "float32", rngs: Streams
) -> BatchNorm:
    """``BatchNorm`` of as many channels.

    Args:
        features: channels of the input.
        bias_value: initial value of the bias.
        frozen: normalise by the running statistics in training, too, and leave them as they are.
        dtype: compute type of the output.
        rngs: random streams of the network.
    """
    return BatchNorm(
        features,
        bias_value=bias_value,
        frozen=frozen,
        momentum=0.9,
        epsilon=1e-5,
        dtype=jnp.dtype(dtype),
        rngs=rngs,
    )
