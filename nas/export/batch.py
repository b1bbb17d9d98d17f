"""Labelled images that travel with an exported network, so that its accuracy can be counted again elsewhere."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from nas.errors import DataError
from nas.train.data import Dataset, load_data
from nas.train.images import take
from nas.train.sources import is_function

IMAGES, BYTES = 64, 4 * 2**20
"""Images that are stored at most, and their bytes: fewer where they are large, but one at least."""


class Batch(NamedTuple):
    """Images (N, C, H, W) float32 of the validation split, normalised as in training, and their labels (N,)."""

    images: Tensor
    labels: Tensor


def stored_batch(data: Dataset) -> Batch:
    """Images from all over the validation split, in its order. The test split is not read."""
    split = data.validation
    count = min(IMAGES, len(split), max(1, BYTES // (4 * prod(data.input_shape))))
    index = (torch.arange(count) * len(split) // count).to(split.device)
    some = replace(split, images=take(split.images, index), labels=split.labels[index])
    images, labels = next(some.batches(count))
    return Batch(images.cpu(), labels.cpu())


def batch_of(source: str, *, seed: int, fingerprint: str, image_size: int | None = None) -> Batch:
    """:func:`stored_batch` of a run's data, read again as the run read it.

    Raises DataError where it is not there any more or not what the run had. A function is not called: a run alone runs no code.
    """
    if is_function(source):
        raise DataError("the data is made by code, which an export does not run", where=source)
    data = load_data(source, seed=seed, image_size=image_size).sealed()
    if data.fingerprint != fingerprint:
        raise DataError("the data is not what this run had", where=source, expected=fingerprint[:16], got=data.fingerprint[:16])
    return stored_batch(data)
