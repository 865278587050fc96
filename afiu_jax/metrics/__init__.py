"""Scores of maps against masks, defined once, exact per image, merged over a data set in float64.

=====================  =======================================================================================
``mae``                mean absolute error                                            (``curves.py``)
``max_f``              the headline: maximum over thresholds of F of the *averaged* precision and recall
``max_f_mean_curve``   maximum over thresholds of the average of F per image
``mean_f``             mean over thresholds of the average of F per image
``adaptive_f``         F at twice the map's mean
``f_at_half``          F at 0.5
``iou``, ``accuracy``  of the map at 0.5
``e_measure_…``        enhanced alignment: maximum, mean over thresholds, at twice the map's mean
``s_measure``          structural similarity of object and regions                    (``structure.py``)
``weighted_f``         F with errors weighted by their place                          (``weighted.py``)
=====================  =======================================================================================

What a map and a mask have in common is counted once (``counts.py``: pixels by level, mask and quadrant); every score
but the weighted F follows from these integers. ``image.py`` puts them together, ``collection.py`` merges.

Reading order: counts, curves, structure, weighted, image, collection.
"""

from afiu_jax.metrics.collection import Scores, ValidationScores
from afiu_jax.metrics.curves import BETA2, f_measure
from afiu_jax.metrics.image import score_images

__all__ = ["BETA2", "Scores", "ValidationScores", "f_measure", "score_images"]
