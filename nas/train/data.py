"""Data sets for image classification: ``load_data("cifar10")``, splits, and their fingerprint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from nas.errors import DataError
from nas.train.augment import Augmentation
from nas.train.balance import class_counts, hold_out, subsample
from nas.train.images import ImageFiles, Images, resized, take
from nas.train.source import Labelled, Source
from nas.train.sources import read_source
from nas.train.split import Split, statistics

VALIDATION = 0.2
"""Share of the training images held out for validation when the source has no validation split."""
TEST = 0.2
"""Share of all images held out as test split when the source has none; always the same images, whatever the seed."""
MEMORY_LIMIT = 2 * 2**30
"""Decoded bytes up to which a folder of images is held in memory."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Images in three splits. A search reads ``train`` and ``validation``; the test split must be asked for.

    ``augmentation`` is what the images bear unless the recipe says otherwise. ``fingerprint`` is a SHA-256 over the
    contents of all splits (files that stay on disk: over their names and sizes): equal fingerprints, equal data.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    augmentation: Augmentation
    fingerprint: str
    _test: Split | None = field(repr=False)

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of every channel over the training split, for pixels in 0..1."""
        return self.train.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of every channel over the training split, for pixels in 0..1."""
        return self.train.std

    def test(self) -> Split:
        """The test split, for the final word on a chosen network. Raises DataError on a sealed data set."""
        if self._test is None:
            raise DataError("the test split is sealed during a search", where=self.name,
                            hint="Judge candidates by `validation`, and the chosen network by the test.")  # fmt: skip
        return self._test

    def sealed(self) -> Dataset:
        """This data set without its test split: what a search hands to whatever chooses or trains candidates."""
        return replace(self, _test=None)

    def to(self, device: torch.device | str) -> Dataset:
        """All splits on ``device`` (files stay files)."""
        return replace(self, train=self.train.to(device), validation=self.validation.to(device),
                       _test=None if self._test is None else self._test.to(device))  # fmt: skip


def load_data(
    source: str, *, seed: int = 0, validation: float | None = None, limit: int | None = None,
    image_size: int | None = None, memory_limit: int = MEMORY_LIMIT, workers: int = 2,
) -> Dataset:  # fmt: skip
    """Read a data set and split it.

    ``source``: ``digits``, ``cifar10``, ``cifar100``, ``fashion_mnist``, ``mnist``, ``hf:NAME``, a folder of class
    folders, a folder of idx files, an ``.npz`` file, or ``package.module:function`` (see :mod:`nas.train.sources`).
    ``validation``: share of the training images held out, class-balanced, drawn by ``seed``; by default the source's
    own validation split, else :data:`VALIDATION`. ``limit``: train on about that many images only, class-balanced,
    drawn by ``seed``. ``image_size``: scale all images to that square. A folder whose decoded images exceed
    ``memory_limit`` bytes is read batch by batch by ``workers`` processes. Raises DataError.
    """
    if image_size is not None and image_size < 1:
        raise DataError("the image size must be positive", where=source, got=image_size)
    raw = _complete(read_source(source, image_size=image_size, memory_limit=memory_limit, workers=workers), source)
    parts = _split(raw, seed=seed, validation=validation, limit=limit, where=source)
    if image_size is not None:
        parts = tuple((_sized(images, image_size), labels) for images, labels in parts)
    mean, std = statistics(parts[0][0])
    train, held_out, test = (Split(images=x, labels=y, num_classes=len(raw.classes), mean=mean, std=std)
                             for x, y in parts)  # fmt: skip
    return Dataset(name=raw.name, classes=raw.classes, train=train, validation=held_out, _test=test,
                   augmentation=raw.augmentation, fingerprint=_fingerprint(parts))  # fmt: skip


def _complete(raw: Source, where: str) -> Source:
    """The source with a test split, its labels and shapes checked."""
    highest = max(int(labels.max()) for labels in raw.labels())
    if highest >= len(raw.classes):
        raise DataError("a label has no class name", where=where, expected=f"labels below {len(raw.classes)}",
                        got=highest)  # fmt: skip
    counts = class_counts(raw.train[1], raw.classes, where=where)
    shapes = {part[0].shape[1:] for part in (raw.train, raw.validation, raw.test) if part is not None}
    if len(shapes) > 1:
        raise DataError("the splits differ in image shape", where=where, got=sorted(tuple(s) for s in shapes))
    if raw.test is not None:
        return raw
    kept, held = hold_out(raw.train[1], counts, TEST, raw.classes, seed=0, where=where, what="test")
    return replace(raw, train=_at(raw.train, kept), test=_at(raw.train, held))


def _split(raw: Source, *, seed: int, validation: float | None, limit: int | None, where: str) -> tuple[Labelled, ...]:
    """(train, validation, test) as asked."""
    train, held_out = raw.train, raw.validation
    counts = class_counts(train[1], raw.classes, where=where)
    if held_out is None:
        share = VALIDATION if validation is None else validation
        kept, held = hold_out(train[1], counts, share, raw.classes, seed=seed, where=where)
        train, held_out = _at(raw.train, kept), _at(raw.train, held)
        counts = class_counts(train[1], raw.classes, where=where)
    elif validation is not None:
        raise DataError("the data has a validation split of its own", where=where, expected="no validation share",
                        got=validation)  # fmt: skip
    if limit is not None:
        train = _at(train, subsample(train[1], counts, limit, seed=seed, where=where))
    assert raw.test is not None
    return train, held_out, raw.test


def _at(part: Labelled, index: Tensor) -> Labelled:
    return take(part[0], index), part[1][index]


def _sized(images: Images, size: int) -> Images:
    return resized(images, size) if isinstance(images, Tensor) else images


def _fingerprint(parts: tuple[Labelled, ...]) -> str:
    digest = hashlib.sha256()
    for images, labels in parts:
        digest.update(repr(tuple(images.shape)).encode())
        digest.update(labels.contiguous().numpy().tobytes())
        if isinstance(images, ImageFiles):
            for path in images.paths:
                digest.update(f"{path.parent.name}/{path.name} {path.stat().st_size}\n".encode())
        else:
            digest.update(images.contiguous().numpy().data)
    return digest.hexdigest()
