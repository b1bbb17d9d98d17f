"""What reading a source yields, before anything is split, and the checks that all array-like sources share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nas.errors import DataError
from nas.train.augment import Augmentation
from nas.train.images import Images, to_uint8

Labelled = tuple[Images, Tensor]
"""Images (N, C, H, W) and their int64 labels (N,)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """The splits that a source has by itself; what is missing is held out from ``train``."""

    name: str
    classes: tuple[str, ...]
    train: Labelled
    validation: Labelled | None = None
    test: Labelled | None = None
    augmentation: Augmentation

    def labels(self) -> list[Tensor]:
        """Labels of all splits that there are."""
        return [part[1] for part in (self.train, self.validation, self.test) if part is not None]


def default_augmentation(images: Images) -> Augmentation:
    """Colour images are taken for photographs (crop, flip); grey ones for signs, which only move a little."""
    _, channels, height, _ = images.shape
    if channels >= 3:
        return Augmentation(crop_padding=height // 8, flip=True)
    return Augmentation(crop_padding=max(1, height // 14))


def numbered(labels: list[Tensor]) -> tuple[str, ...]:
    """Class names "0", "1", ... for labels that have none."""
    return tuple(str(i) for i in range(1 + max(int(part.max()) for part in labels)))


def labelled(images: np.ndarray, labels: np.ndarray, *, where: str) -> tuple[Tensor, Tensor]:
    """Arrays (N, H, W) or (N, H, W, C) and (N,) as tensors (N, C, H, W) uint8 and int64.

    Raises DataError for other shapes, kinds of numbers or lengths.
    """
    if images.ndim == 4 and images.shape[-1] > 16 >= images.shape[1]:
        raise DataError("the channels come last", where=where, expected="(N, H, W, C)", got=images.shape,
                        hint="Save x.transpose(0, 2, 3, 1).")  # fmt: skip
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise DataError("not a set of images", where=where, expected="(N, H, W) or (N, H, W, C)", got=images.shape)
    pixels = to_uint8(images, where=where)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.array(pixels, order="C")), label_tensor(labels, len(images), where=where)


def label_tensor(labels: np.ndarray, count: int, *, where: str) -> Tensor:
    """``count`` class numbers from 0 on, as int64. Raises DataError for anything else."""
    if labels.shape not in ((count,), (count, 1)):
        raise DataError("labels do not fit the images", where=where, expected=f"shape ({count},)", got=labels.shape)
    if labels.dtype.kind not in "iu":
        raise DataError("labels must be integers", where=where, expected="class numbers from 0 on",
                        got=str(labels.dtype))  # fmt: skip
    if int(labels.min()) < 0 or int(labels.max()) > 100_000:
        raise DataError("labels must be class numbers from 0 on", where=where,
                        got=f"{labels.min()}..{labels.max()}")  # fmt: skip
    return torch.from_numpy(labels.reshape(count).astype(np.int64))
