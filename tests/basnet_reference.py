"""BASNet once more, straight from its published state dict, in NumPy and double precision.

No outputs of the original were recorded. This one shares nothing with our layers, blocks and names.
"""

from collections.abc import Mapping

import numpy as np


def basnet(arrays: Mapping[str, np.ndarray], image: np.ndarray) -> list[np.ndarray]:
    """The eight logits of an image ``[b, 3, h, w]`` in the published order: refined, d1…d6, bridge."""

    def conv(x, key, *, stride=1, dilation=1):
        kernel = arrays[f"{key}.weight"].astype(np.float64)
        pad = dilation * (kernel.shape[2] - 1) // 2
        h, w = x.shape[2] // stride, x.shape[3] // stride
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        y = 0.0
        for i, j in np.ndindex(kernel.shape[2:]):
            rows = slice(i * dilation, i * dilation + stride * h, stride)
            columns = slice(j * dilation, j * dilation + stride * w, stride)
            y = y + np.einsum("bihw,oi->bohw", x[:, :, rows, columns], kernel[:, :, i, j], optimize=True)
        return y + arrays[f"{key}.bias"][:, None, None] if f"{key}.bias" in arrays else y

    def norm(x, key):
        mean, var, scale, bias = (
            arrays[f"{key}.{part}"].astype(np.float64)[:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * scale + bias

    def unit(x, suffix, *, prefix="", dilation=1):
        return relu(norm(conv(x, f"{prefix}conv{suffix}", dilation=dilation), f"{prefix}bn{suffix}"))

    def basic_block(x, key, *, stride=1):
        y = relu(norm(conv(x, f"{key}.conv1", stride=stride), f"{key}.bn1"))
        y = norm(conv(y, f"{key}.conv2"), f"{key}.bn2")
        if f"{key}.downsample.0.weight" in arrays:
            x = norm(conv(x, f"{key}.downsample.0", stride=stride), f"{key}.downsample.1")
        return relu(y + x)

    x = relu(norm(conv(image.astype(np.float64), "inconv"), "inbn"))
    encoded = []
    for level, depth in enumerate((3, 4, 6, 3), start=1):
        for b in range(depth):
            x = basic_block(x, f"encoder{level}.{b}", stride=2 if level > 1 and b == 0 else 1)
        encoded.append(x)
    for level in (5, 6):
        x = pool(x)
        for b in (1, 2, 3):
            x = basic_block(x, f"resb{level}_{b}")
        encoded.append(x)
    for place in "1m2":
        x = unit(x, f"bg_{place}", dilation=2)
    maps = [enlarge(conv(x, "outconvb"), 32)]
    for level, factor in zip((6, 5, 4, 3, 2, 1), (32, 16, 8, 4, 2, 1), strict=True):
        x = np.concatenate([x if level == 6 else enlarge(x, 2), encoded[level - 1]], axis=1)
        for place in "1m2":
            x = unit(x, f"{level}d_{place}", dilation=2 if level == 6 and place != "1" else 1)
        maps.append(enlarge(conv(x, f"outconv{level}"), factor))

    x, skips = conv(maps[-1], "refunet.conv0"), []
    for i in (1, 2, 3, 4):
        skips.append(unit(x, f"{i}", prefix="refunet."))
        x = pool(skips[-1])
    x = unit(x, "5", prefix="refunet.")
    for i in (4, 3, 2, 1):
        x = unit(np.concatenate([enlarge(x, 2), skips[i - 1]], axis=1), f"_d{i}", prefix="refunet.")
    maps.append(maps[-1] + conv(x, "refunet.conv_d0"))
    return maps[::-1]


def relu(x):
    return np.maximum(x, 0)


def pool(x):
    return np.max([x[:, :, i::2, j::2] for i, j in np.ndindex(2, 2)], axis=0)


def enlarge(x, factor):
    """Bilinear, half-pixel centres."""
    for axis in (2, 3):
        n = x.shape[axis]
        source = np.maximum((np.arange(n * factor) + 0.5) / factor - 0.5, 0)
        below = source.astype(int)
        share = np.expand_dims(source - below, (0, 1, 5 - axis))
        x = np.take(x, below, axis) * (1 - share) + np.take(x, np.minimum(below + 1, n - 1), axis) * share
    return x
