"""Class-balanced, seeded draws: which images go to validation, which to a smaller proxy set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nas.errors import DataError


def class_counts(labels: Tensor, classes: Sequence[str], *, where: str) -> Tensor:
    """Images of each class. Raises DataError naming a class without images, or a single class."""
    if len(classes) < 2:
        raise DataError("only one class", where=where, expected="at least two classes", got=list(classes))
    counts = torch.bincount(labels, minlength=len(classes))
    if (empty := torch.nonzero(counts == 0).flatten()).numel():
        name = classes[int(empty[0])]
        raise DataError(f"class {name!r} has no training images", where=where,
                        hint="Add images to the class, or remove it; labels count from 0.")  # fmt: skip
    return counts


def quotas(counts: Tensor, total: int, *, keep: int = 0) -> Tensor:
    """How many of ``total`` each class gives: proportional, by largest remainder, at least 1 and at most count - keep.

    Every class is within one image of its exact share.
    """
    exact = counts.double() * total / int(counts.sum())
    quota = exact.floor().long()
    rest = min(total - int(quota.sum()), len(counts))
    quota[torch.argsort(quota - exact, stable=True)[:rest]] += 1
    return torch.minimum(quota.clamp(min=1), counts - keep)


def draw(labels: Tensor, quota: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
    """(taken, rest): ``quota[c]`` images of every class c at random, and all others, as ascending indices."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    counts = torch.bincount(labels, minlength=len(quota))
    starts = torch.cumsum(counts, 0) - counts
    rank = torch.arange(len(labels)) - starts[labels[by_class]]
    chosen = rank < quota[labels[by_class]]
    return by_class[chosen].sort().values, by_class[~chosen].sort().values


def hold_out(labels: Tensor, counts: Tensor, fraction: float, classes: Sequence[str], *, seed: int, where: str,
             what: str = "validation") -> tuple[Tensor, Tensor]:  # fmt: skip
    """(kept, held out): a class-balanced ``fraction`` (0 < fraction < 1) of the images is held out."""
    if not 0.0 < fraction < 1.0:
        raise DataError(f"the {what} fraction must lie between 0 and 1", where=where, got=fraction)
    if int(counts.min()) < 2:
        name = classes[int(counts.argmin())]
        raise DataError(f"class {name!r} has only one image, too few to hold out a {what} split", where=where,
                        expected="two images a class at least")  # fmt: skip
    held, kept = draw(labels, quotas(counts, round(fraction * len(labels)), keep=1), seed=seed)
    return kept, held


def subsample(labels: Tensor, counts: Tensor, limit: int, *, seed: int, where: str) -> Tensor:
    """Ascending indices of a class-balanced subset of about ``limit`` images (all of them when there are fewer)."""
    if limit < len(counts):
        raise DataError("the limit leaves classes without an image", where=where,
                        expected=f"at least one image a class ({len(counts)})", got=limit)  # fmt: skip
    if limit >= len(labels):
        return torch.arange(len(labels))
    return draw(labels, quotas(counts, limit), seed=seed)[0]
