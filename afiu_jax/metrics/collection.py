"""Scores of a data set: sums over its images, in float64 on the host, that merge by addition (``clu.metrics``)."""

import operator
from collections.abc import Mapping
from typing import ClassVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics
from jaxtyping import Array, Float

from afiu_jax.metrics.curves import f_measure


@flax.struct.dataclass
class ImageMean(clu_metrics.Metric):
    """Mean over images of a score or, entry by entry, of a curve; NaN of no image.

    Attributes:
        total: sum over images.
        count: number of images.
    """

    key: ClassVar[str]
    total: np.ndarray | float
    count: float

    @classmethod
    def of(cls, key: str) -> type["ImageMean"]:
        """The metric of the entry ``key`` of an ``image.ImageScores``."""
        return flax.struct.dataclass(type(f"{cls.__name__}_{key}", (cls,), {"key": key, "__annotations__": {}}))

    @classmethod
    def empty(cls) -> "ImageMean":
        """Of no image."""
        return cls(total=0.0, count=0.0)

    @classmethod
    def from_model_output(cls, **scores: Array | np.ndarray) -> "ImageMean":
        """Of a batch, whose first axis is the images."""
        values = np.asarray(scores[cls.key], np.float64)
        return cls(total=values.sum(0), count=float(len(values)))

    def merge(self, other: "ImageMean") -> "ImageMean":
        """Of both sets of images."""
        return jax.tree.map(operator.add, self, other)

    def mean(self) -> Float[np.ndarray | np.float64, "..."]:
        """The mean, a curve if the entry is one."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.total, np.float64) / np.asarray(self.count, np.float64)

    def compute(self) -> np.ndarray | np.float64:
        """The score of the data set."""
        return self.mean()


@flax.struct.dataclass
class CurveMaximum(ImageMean):
    """Maximum over thresholds of a curve that is averaged over images."""

    def compute(self) -> np.ndarray | np.float64:
        """The score of the data set."""
        return self.mean().max()


@flax.struct.dataclass
class CurveMean(ImageMean):
    """Mean over thresholds of a curve that is averaged over images."""

    def compute(self) -> np.ndarray | np.float64:
        """The score of the data set."""
        return self.mean().mean()


@flax.struct.dataclass
class MaxF(clu_metrics.Metric):
    """max F from the precision-recall curve of the data set, the headline.

    P(t) and R(t) are averaged over images first; F follows per threshold; the maximum over t is taken. This is the
    definition of MINet's evaluation and of the classical saliency toolboxes. Pooling the pixels of all images gives
    other numbers (.785 where .806 is published), and so does averaging F per image (``max_f_mean_curve``).
    """

    precision: ImageMean.of("precision")
    recall: ImageMean.of("recall")

    @classmethod
    def empty(cls) -> "MaxF":
        """Of no image."""
        return cls(*(metric.empty() for metric in cls.__annotations__.values()))

    @classmethod
    def from_model_output(cls, **scores: Array | np.ndarray) -> "MaxF":
        """Of a batch."""
        return cls(*(metric.from_model_output(**scores) for metric in cls.__annotations__.values()))

    def merge(self, other: "MaxF") -> "MaxF":
        """Of both sets of images."""
        return type(self)(self.precision.merge(other.precision), self.recall.merge(other.recall))

    def curve(self) -> Float[np.ndarray, "*t"]:
        """F of the averaged precision and recall at every threshold; a single NaN of no image."""
        with jax.enable_x64():
            return np.asarray(f_measure(*map(jnp.asarray, (self.precision.mean(), self.recall.mean()))))

    def compute(self) -> np.ndarray | np.float64:
        """The score of the data set."""
        return self.curve().max()


@flax.struct.dataclass
class ValidationScores(clu_metrics.Collection):
    """What training watches."""

    mae: ImageMean.of("mae")
    max_f: MaxF


@flax.struct.dataclass
class Scores(clu_metrics.Collection):
    """Every score of a data set, in the order in which they are printed."""

    mae: ImageMean.of("mae")
    max_f: MaxF
    max_f_mean_curve: CurveMaximum.of("f")
    mean_f: CurveMean.of("f")
    adaptive_f: ImageMean.of("adaptive_f")
    f_at_half: ImageMean.of("f_at_half")
    weighted_f: ImageMean.of("weighted_f")
    s_measure: ImageMean.of("s_measure")
    e_measure_max: CurveMaximum.of("e_measure")
    e_measure_mean: CurveMean.of("e_measure")
    e_measure_adaptive: ImageMean.of("e_measure_adaptive")
    iou: ImageMean.of("iou")
    accuracy: ImageMean.of("accuracy")

    def curves(self) -> Mapping[str, Float[np.ndarray, " 256"]]:
        """Precision, recall, F and E-measure at thresholds 0…255, each averaged over images."""
        return {
            "precision": self.max_f.precision.mean(),
            "recall": self.max_f.recall.mean(),
            "f": self.max_f_mean_curve.mean(),
            "e_measure": self.e_measure_max.mean(),
        }
