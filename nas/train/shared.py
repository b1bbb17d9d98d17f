"""A data set's arrays in files that many processes map: one copy in memory, whatever the number of workers.

The folder is flat, so that it can be carried to another machine file by file, and holds no code and no test split.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nas.errors import DataError
from nas.train.augment import Augmentation
from nas.train.data import Dataset
from nas.train.split import Split

ABOUT = "dataset.json"
PARTS = ("train", "validation")


def share(data: Dataset, folder: Path) -> Path | None:
    """Writes what a search trains and validates on, unless it stands there already; the folder, or None for a data set that
    is read from its own files batch by batch, which nothing holds in memory. Raises DataError when it cannot be written."""
    splits = {part: getattr(data, part) for part in PARTS}
    if not all(isinstance(split.images, Tensor) for split in splits.values()):
        return None
    if _fingerprint(folder) == data.fingerprint:
        return folder
    about = {"name": data.name, "classes": data.classes, "fingerprint": data.fingerprint, "mean": data.mean, "std": data.std,
             "augmentation": asdict(data.augmentation)}  # fmt: skip
    partial = folder.with_name(folder.name + ".partial")
    try:
        for old in (partial, folder):
            shutil.rmtree(old, ignore_errors=True)
        partial.mkdir(parents=True)
        for part, split in splits.items():
            np.save(partial / f"{part}_images.npy", split.images.cpu().contiguous().numpy(), allow_pickle=False)
            np.save(partial / f"{part}_labels.npy", split.labels.cpu().numpy(), allow_pickle=False)
        (partial / ABOUT).write_text(json.dumps(about))
        partial.rename(folder)
    except OSError as error:
        raise DataError(f"the data cannot be written for the workers: {error.strerror}", where=str(folder)) from None
    return folder


def open_shared(folder: Path | str) -> Dataset:
    """The data set that :func:`share` wrote, sealed, its arrays mapped and read when they are used.

    What is written into them stays in this process. Raises DataError for a folder that is missing or damaged.
    """
    folder = Path(folder)
    try:
        about = json.loads((folder / ABOUT).read_text())
        splits = {part: _split(folder, part, about) for part in PARTS}
        return Dataset(name=about["name"], classes=tuple(about["classes"]), fingerprint=about["fingerprint"],
                       augmentation=Augmentation(**about["augmentation"]), _test=None, **splits)  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise DataError("the workers' copy of the data cannot be read", where=str(folder),
                        got=f"{type(error).__name__}: {error}") from None  # fmt: skip


def _split(folder: Path, part: str, about: dict[str, list[str]]) -> Split:
    images, labels = (
        # Copy on write: torch warns of arrays that it must not write to.
        torch.from_numpy(np.load(folder / f"{part}_{what}.npy", mmap_mode="c", allow_pickle=False))
        for what in ("images", "labels")
    )
    mean, std = (tuple(map(float, about[what])) for what in ("mean", "std"))
    return Split(images=images, labels=labels, num_classes=len(about["classes"]), mean=mean, std=std)


def _fingerprint(folder: Path) -> str | None:
    """Of the data set that stands there whole; None for none."""
    try:
        return open_shared(folder).fingerprint
    except DataError:
        return None
