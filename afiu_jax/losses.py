"""Losses on logits, those that the networks were published with. Pure functions of arrays.

Every loss takes a ``Prediction`` and a mask; logits of another size than the mask are resized to it, bilinearly.

==================  ===============================================================  =============================
``bce``             cross-entropy of the final map                                    AFIU
``bce-sides``       the same of the final map and of every side output, summed        U²-Net, CPD, SRM
``bce-fuse``        the same, the final map weighing 1.1                              SUN
``bce-cel``         cross-entropy and consistency-enhanced loss of the final map      MINet
``bce-ssim-iou``    cross-entropy, structural similarity and overlap of every output  BASNet
==================  ===============================================================  =============================
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from afiu_jax.layers import resize
from afiu_jax.networks.prediction import Prediction

Maps = Float[Array, "b h w 1"]
Scalar = Float[Array, ""]

_FUSE_WEIGHT = 1.1  # of SUN's final map, its side outputs weighing 1
_CEL_EPSILON = 1e-6
_SSIM_SIGMA, _SSIM_RADIUS = 1.5, 5  # a window of 11×11 pixels
_C1, _C2 = 0.01**2, 0.03**2


def binary_cross_entropy(logits: Maps, mask: Maps) -> Scalar:
    """Pixel-wise binary cross-entropy, averaged over all pixels of the batch (equation 2 of the paper).

    The paper sums over the pixels. Adam divides the gradient by its own scale, so the factor between sum and mean
    leaves its steps unchanged, but for its epsilon of 1e-8: gradients about as small, which the factor may make them,
    give smaller steps. The mean does not depend on the image size. SRM's loss over two channels before a
    softmax is this one on their difference.
    """
    return optax.sigmoid_binary_cross_entropy(logits, mask).mean()


def consistency_enhanced(logits: Maps, mask: Maps) -> Scalar:
    """MINet's CEL (Pang et al., CVPR 2020, equation 6): |map − mask| against their sizes, over the whole batch.

    [Σ(p − pg) + Σ(g − pg)] / (Σp + Σg + 1e-6) with p = sigmoid(logits). Range 0…1.
    """
    p = jax.nn.sigmoid(logits)
    both = (p * mask).sum()
    sizes = p.sum() + mask.sum()
    return (sizes - 2 * both) / (sizes + _CEL_EPSILON)


def structural_dissimilarity(logits: Maps, mask: Maps) -> Scalar:
    """1 − SSIM of map and mask (Wang et al. 2004, in BASNet's window: Gaussian, σ 1.5, 11×11, zeros outside).

    Averaged over all pixels of the batch. Range 0…2.
    """
    x, y = jax.nn.sigmoid(logits), mask
    mean_x, mean_y = _window(x), _window(y)
    variance_x, variance_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    return 1 - (luminance * structure).mean()


def overlap(logits: Maps, mask: Maps) -> Scalar:
    """1 − intersection over union, both soft, averaged over images (BASNet, Qin et al., CVPR 2019). Range 0…1.

    An empty mask gives 1, whatever the map.
    """
    p = jax.nn.sigmoid(logits)
    axes = (1, 2, 3)
    both = (p * mask).sum(axes)
    either = p.sum(axes) + mask.sum(axes) - both
    return (1 - both / jnp.where(either > 0, either, 1)).mean()  # a sure map of an empty mask sums up to 0


def _window(x: Maps) -> Maps:
    """Gaussian mean of 11×11 pixels, rows and columns in turn."""
    taps = np.exp(-(np.arange(-_SSIM_RADIUS, _SSIM_RADIUS + 1) ** 2) / (2 * _SSIM_SIGMA**2))
    taps = jnp.asarray(taps / taps.sum(), x.dtype)
    for shape in ((-1, 1, 1, 1), (1, -1, 1, 1)):
        # Variances are differences of these means: fewer bits, as GPUs take unless told, make some of them negative.
        x = jax.lax.conv_general_dilated(
            x, taps.reshape(shape), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
        )
    return x


Term = Callable[[Maps, Maps], Scalar]
Loss = Callable[[Prediction, Maps], Scalar]


def final_map(*terms: Term) -> Loss:
    """The sum of terms of the final map."""

    def loss(prediction: Prediction, mask: Maps) -> Scalar:
        logits = _fit(prediction.logits, mask)
        return sum(term(logits, mask) for term in terms)

    return loss


def deep_supervision(*terms: Term, final_weight: float = 1.0) -> Loss:
    """The sum of terms of the final map, times ``final_weight``, and of every side output."""
    final = final_map(*terms)

    def loss(prediction: Prediction, mask: Maps) -> Scalar:
        sides = (final(Prediction(logits), mask) for logits in prediction.side_logits)
        return final_weight * final(prediction, mask) + sum(sides)

    return loss


def _fit(logits: Float[Array, "b h w 1"], mask: Float[Array, "b h2 w2 1"]) -> Float[Array, "b h2 w2 1"]:
    return resize(logits.astype(jnp.float32), mask.shape[1:3])


LOSSES: dict[str, Loss] = {
    "bce": final_map(binary_cross_entropy),
    "bce-sides": deep_supervision(binary_cross_entropy),
    "bce-fuse": deep_supervision(binary_cross_entropy, final_weight=_FUSE_WEIGHT),
    "bce-cel": final_map(binary_cross_entropy, consistency_enhanced),
    "bce-ssim-iou": deep_supervision(binary_cross_entropy, structural_dissimilarity, overlap),
}
"""The losses by the name that ``config.loss.name`` uses."""

DEFAULT_LOSS = {
    "afiu": "bce",
    "basnet": "bce-ssim-iou",
    "cpd_res50": "bce-sides",
    "cpd_vgg16": "bce-sides",
    "minet_res50": "bce-cel",
    "minet_vgg16": "bce-cel",
    "srm": "bce-sides",
    "sun": "bce-fuse",
    "u2net": "bce-sides",
    "u2netp": "bce-sides",
}
"""What ``loss.name = auto`` means for each network: the loss it was published with."""
