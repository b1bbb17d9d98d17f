"""One split of a data set, and its batches."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from nas.errors import DataError
from nas.train.augment import Augmentation, Normalise, augment
from nas.train.images import ImageFiles, Images, take
from nas.train.parallel import ALONE, Group
from nas.train.seeding import derive_seed

STATISTICS_SAMPLE = 2048
"""So many files, evenly spaced, give mean and deviation of a streamed split (a split in memory uses all its images)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Images (N, C, H, W) uint8, or files of that shape, with int64 labels (N,).

    Labels count from 0 to ``num_classes`` - 1.
    ``mean`` and ``std`` (a number a channel, for pixels in 0..1) are those of the training split, also in the others.
    """

    images: Images
    labels: Tensor
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where the labels live and the batches come out."""
        return self.labels.device

    def to(self, device: torch.device | str) -> Split:
        """This split on ``device``; files stay files."""
        images = self.images.to(device) if isinstance(self.images, Tensor) else self.images
        return replace(self, images=images, labels=self.labels.to(device))

    def train_batches(self, batch_size: int, how: Augmentation, generator: torch.Generator, group: Group = ALONE
                      ) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """One shuffled, augmented epoch of (float32 images, labels); ``generator`` lives on the split's device.

        No image is left out and no batch is tiny: the epoch is cut into the fewest batches that are not larger than
        ``batch_size`` (3 where 2 would leave one image over), all of equal size but for one image. In a ``group`` of
        processes each gets its part of every batch, and augments it by numbers of its own.
        """
        order = torch.randperm(len(self), generator=generator, device=self.device)
        if group.size > 1:
            generator.manual_seed(derive_seed(generator.initial_seed(), group.rank))
        normalise = Normalise(self.mean, self.std, self.device)
        chunks = order.tensor_split(num_batches(len(self), batch_size))
        for images, labels in self._raw(tuple(map(group.part, chunks))):
            yield augment(images, normalise, how, generator), labels

    def part(self, group: Group) -> Split:
        """What a process of a group judges: its part of the images, in their order."""
        if group.size == 1:
            return self
        index = group.part(torch.arange(len(self)))
        return replace(self, images=take(self.images, index.to(self.device) if isinstance(self.images, Tensor) else index),
                       labels=self.labels[index.to(self.device)])  # fmt: skip

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The split in its own order, not augmented: (float32 images, labels)."""
        normalise = Normalise(self.mean, self.std, self.device)
        order = torch.arange(len(self), device=self.device)
        for images, labels in self._raw(torch.split(order, batch_size)):
            yield normalise(images), labels

    def _raw(self, chunks: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, Tensor]]:
        """uint8 images and labels of every chunk of indices."""
        if isinstance(self.images, Tensor):
            for index in chunks:
                yield self.images.index_select(0, index), self.labels.index_select(0, index)
        else:
            for images, index in zip(_stream(self.images, chunks, self.device), chunks, strict=True):
                yield images, self.labels.index_select(0, index)


def num_batches(count: int, batch_size: int) -> int:
    """Batches of a training epoch over ``count`` images; none has a single image, which batch norm cannot take."""
    return max(1, min(ceil(count / batch_size), count // 2))


def _stream(files: ImageFiles, chunks: tuple[Tensor, ...], device: torch.device) -> Iterator[Tensor]:
    """Every chunk of files decoded, by worker processes where this process may have any."""
    workers = 0 if multiprocessing.current_process().daemon else files.workers
    loader = DataLoader(_FileBatches(files), batch_size=None, sampler=[chunk.tolist() for chunk in chunks],
                        num_workers=workers, pin_memory=device.type == "cuda",
                        generator=torch.Generator())  # fmt: skip
    for images in loader:
        if isinstance(images, DataError):
            raise images
        yield images.to(device, non_blocking=True)


class _FileBatches(torch.utils.data.Dataset[Tensor | DataError]):
    """Item = a whole batch. Errors are handed over as values: a worker's exception arrives as a traceback in text."""

    def __init__(self, files: ImageFiles) -> None:
        self.files = files

    def __getitem__(self, indices: list[int]) -> Tensor | DataError:
        try:
            return torch.stack([self.files.load(index) for index in indices])
        except DataError as error:
            return error


def statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel for pixels in 0..1; a constant channel counts as deviation 1/255."""
    if isinstance(images, ImageFiles):
        step = ceil(len(images) / STATISTICS_SAMPLE)
        images = images.load_all(range(0, len(images), step))
    values = torch.arange(256, dtype=torch.float64) / 255.0
    moments = []
    for channel in range(images.shape[1]):
        share = torch.bincount(images[:, channel].flatten(), minlength=256).double()
        share /= share.sum()
        mean = float((share * values).sum())
        moments.append((mean, max(float((share * (values - mean) ** 2).sum()) ** 0.5, 1 / 255)))
    return tuple(mean for mean, _ in moments), tuple(std for _, std in moments)
