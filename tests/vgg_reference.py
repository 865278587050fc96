"""VGG-16's levels once more, straight from a published state dict, in NumPy and double precision.

No outputs of the networks on VGG-16 were recorded. This one shares nothing with our layers, blocks and names.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np


def vgg_levels(
    arrays: Mapping[str, np.ndarray], levels: Sequence[str], image: np.ndarray, pool: Callable
) -> list[np.ndarray]:
    """Features ``[b, c, h, w]`` of every level.

    Args:
        arrays: the state dict, in the order of the original.
        levels: published names of the levels.
        image: ``[b, 3, h, w]``.
        pool: ``np.max`` or ``np.mean`` of the 2×2 windows before every level but the first.
    """
    x, features = image.astype(np.float64), []
    for level in levels:
        if features:
            h, w = (n // 2 * 2 for n in x.shape[2:])
            x = pool([x[:, :, i:h:2, j:w:2] for i, j in np.ndindex(2, 2)], axis=0)
        modules = list(dict.fromkeys(key.rpartition(".")[0] for key in arrays if key.startswith(f"{level}.")))
        norms = [module for module in modules if f"{module}.running_mean" in arrays]
        for module in modules:
            x = (_norm if module in norms else _conv)(x, arrays, module)
            if module in norms or not norms:
                x = np.maximum(x, 0)
        features.append(x)
    return features


def _conv(x, arrays, name):
    kernel, bias = arrays[f"{name}.weight"].astype(np.float64), arrays[f"{name}.bias"]
    _, _, h, w = x.shape
    x, y = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), bias[:, None, None]
    for i, j in np.ndindex(3, 3):
        y = y + np.einsum("bihw,oi->bohw", x[:, :, i : i + h, j : j + w], kernel[:, :, i, j], optimize=True)
    return y


def _norm(x, arrays, name):
    mean, var, scale, bias = (
        arrays[f"{name}.{part}"].astype(np.float64)[:, None, None]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(var + 1e-5) * scale + bias
