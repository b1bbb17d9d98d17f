"""The error of every number of a run: how sure an accuracy is, and what its denominator was."""

from __future__ import annotations

import math
from collections.abc import Sequence

MOST_IMAGES = 200_000
"""A split's size is not looked for beyond this."""


def binomial_error(accuracy: float | None, images: int | None) -> float | None:
    """Standard error of an accuracy on so many images: sqrt(p (1 - p) / n). It knows nothing of the training's own chance."""
    if accuracy is None or not images:
        return None
    return math.sqrt(max(0.0, accuracy * (1 - accuracy)) / images)


def images_behind(accuracies: Sequence[float]) -> int | None:
    """The fewest images on which all these accuracies can have come about; None for fewer than five different ones."""
    values = sorted(set(accuracies))
    if len(values) < 5:
        return None
    for images in range(2, MOST_IMAGES):
        if all(abs(v * images - round(v * images)) < 1e-9 * images for v in values):
            return images
    return None
