"""Which reader a source's word means."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from nas.errors import DataError, nearest
from nas.train.arrays import IDX, idx_file, read_digits, read_idx_folder, read_npz
from nas.train.augment import Augmentation
from nas.train.folder import read_folder
from nas.train.rows import read_function, read_hugging_face
from nas.train.source import Source

FORMS = ("digits, cifar10, cifar100, fashion_mnist, mnist, hf:NAME, a folder of class folders, a folder of idx files, "
         "an .npz file, or package.module:function")  # fmt: skip
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Where a well-known set lies on the Hugging Face hub, its label column, and what its images bear."""

    name: str
    label: str
    augmentation: Augmentation


NAMED: dict[str, Hub] = {
    "cifar10": Hub(name="uoft-cs/cifar10", label="label", augmentation=Augmentation(crop_padding=4, flip=True)),
    "cifar100": Hub(name="uoft-cs/cifar100", label="fine_label", augmentation=Augmentation(crop_padding=4, flip=True)),
    "fashion_mnist": Hub(name="zalando-datasets/fashion_mnist", label="label",
                         augmentation=Augmentation(crop_padding=2, flip=True)),
    "mnist": Hub(name="ylecun/mnist", label="label", augmentation=Augmentation(crop_padding=2)),
}  # fmt: skip
"""Sets known by a plain name. ``$NAS_DATA/<name>.npz`` is used first where it exists."""


def read_source(source: str, *, image_size: int | None, memory_limit: int, workers: int) -> Source:
    """Read what ``source`` means. Raises DataError naming the nearest known word, or what is wrong with the data."""
    if source == "digits":
        return read_digits()
    if source in NAMED:
        return _read_named(source, NAMED[source], image_size=image_size, memory_limit=memory_limit)
    if source.startswith("hf:") and len(source) > 3:
        return read_hugging_face(source[3:], image_size=image_size, memory_limit=memory_limit)
    path = Path(source).expanduser()
    if path.suffix == ".npz":
        return read_npz(path)
    if source and path.is_dir():
        if any(idx_file(path, name) for name in IDX):
            return read_idx_folder(path)
        return read_folder(path, image_size=image_size, memory_limit=memory_limit, workers=workers)
    if is_function(source):
        return read_function(source, image_size=image_size, memory_limit=memory_limit)
    if path.exists():
        raise DataError("not a data set that can be read", where=source, expected=FORMS)
    raise DataError("no such data set, file or folder", expected=FORMS, got=source,
                    hint=nearest(source, ["digits", *NAMED]))  # fmt: skip


def is_function(source: str) -> bool:
    """Whether reading the source would call code: ``package.module:function``."""
    return bool(_FUNCTION.fullmatch(source)) and not source.startswith("hf:") and not Path(source).expanduser().is_dir()


def _read_named(name: str, hub: Hub, *, image_size: int | None, memory_limit: int) -> Source:
    if folder := os.environ.get("NAS_DATA"):
        path = Path(folder).expanduser() / f"{name}.npz"
        if path.is_file():
            return read_npz(path, name=name, augmentation=hub.augmentation)
    return read_hugging_face(hub.name, image_size=image_size, memory_limit=memory_limit, label=hub.label, short=name,
                             augmentation=hub.augmentation)  # fmt: skip
