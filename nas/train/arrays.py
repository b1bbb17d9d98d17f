"""Sources that are arrays: ``.npz`` files, folders of idx files (MNIST's format), scikit-learn's digits."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path

import numpy as np

from nas.errors import DataError
from nas.train.augment import Augmentation
from nas.train.source import Source, default_augmentation, labelled, numbered

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
NPZ_FORM = "an .npz with x_train, y_train and optionally x_val, y_val, x_test, y_test, classes"


def read_digits() -> Source:
    """1,797 grey 8x8 digits that come with scikit-learn; they have no split of their own."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    train = labelled(bunch.images / 16.0, bunch.target, where="digits")
    return Source(name="digits", classes=numbered([train[1]]), train=train, augmentation=default_augmentation(train[0]))


def read_npz(path: Path, *, name: str | None = None, augmentation: Augmentation | None = None) -> Source:
    """An ``.npz`` file: ``x_*`` (N, H, W) or (N, H, W, C), uint8 or float; ``y_*`` (N,) integers. No pickles."""
    arrays = _load_npz(path)
    missing = [key for key in ("x_train", "y_train") if key not in arrays]
    missing += [f"y_{part}" for part in ("val", "test") if f"x_{part}" in arrays and f"y_{part}" not in arrays]
    if missing:
        raise DataError(f"the array {missing[0]!r} is missing", where=str(path), expected=NPZ_FORM, got=sorted(arrays))
    train, validation, test = (
        labelled(arrays[f"x_{part}"], arrays[f"y_{part}"], where=f"{path} ({part})") if f"x_{part}" in arrays else None
        for part in ("train", "val", "test")
    )
    assert train is not None
    if "classes" in arrays:
        classes = tuple(str(c) for c in arrays["classes"].reshape(-1))
    else:
        classes = numbered([part[1] for part in (train, validation, test) if part])
    return Source(name=name or path.stem, classes=classes, train=train, validation=validation, test=test,
                  augmentation=augmentation or default_augmentation(train[0]))  # fmt: skip


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            if isinstance(file, np.ndarray):
                raise DataError("a single array", where=str(path), expected=NPZ_FORM)
            return {key: file[key] for key in file.files}
    except FileNotFoundError as error:
        raise DataError("no such file", where=str(path), expected=NPZ_FORM) from error
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError("not a readable .npz file", where=str(path), expected=NPZ_FORM,
                        got=str(error).partition(" (object) data")[0],
                        hint="It may be truncated, or hold pickles, which are never loaded.") from error  # fmt: skip


def idx_file(folder: Path, name: str) -> Path | None:
    """The idx file of that name, packed or not, or None."""
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def read_idx_folder(folder: Path) -> Source:
    """The four files of MNIST and its relatives, each ``.gz`` or unpacked."""
    arrays = []
    for name in IDX:
        if (path := idx_file(folder, name)) is None:
            raise DataError(f"{name}.gz is missing", where=str(folder), expected=", ".join(f"{n}.gz" for n in IDX))
        arrays.append(read_idx(path))
    train = labelled(arrays[0], arrays[1], where=f"{folder} (train)")
    test = labelled(arrays[2], arrays[3], where=f"{folder} (test)")
    return Source(name=folder.name, classes=numbered([train[1], test[1]]), train=train, test=test,
                  augmentation=default_augmentation(train[0]))  # fmt: skip


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of one idx file (magic 0 0 8 ndim, big-endian extents, bytes). DataError if it is broken."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError("not a readable gzip file", where=str(path), got=str(error)) from error
    if raw[:3] != b"\0\0\x08" or len(raw) < 4 + 4 * raw[3]:
        raise DataError("not an idx file of unsigned bytes", where=str(path), expected="it to start with 00 00 08",
                        got=raw[:4].hex(" "))  # fmt: skip
    shape = [int(extent) for extent in np.frombuffer(raw, ">u4", count=raw[3], offset=4)]
    body = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if body.size != int(np.prod(shape, dtype=object)):
        raise DataError("the idx file is cut short or too long", where=str(path), expected=f"{shape} bytes",
                        got=f"{body.size} bytes")  # fmt: skip
    return body.reshape(shape)
