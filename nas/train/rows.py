"""Sources that hand out one Python object an image: Hugging Face data sets, and a user's own torch data sets."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas.errors import DataError
from nas.train.augment import Augmentation
from nas.train.images import SCALE_HINT, fitted, pixels_of, to_uint8
from nas.train.source import Labelled, Source, default_augmentation, label_tensor, numbered

FUNCTION_FORM = "a function that returns (train, test), each a data set of (image, label)"


def read_function(source: str, *, image_size: int | None, memory_limit: int) -> Source:
    """Call ``package.module:function``, which returns (train, test) map-style data sets of (image, label).

    An image is a PIL image, an (H, W) or (H, W, C) array, or a (C, H, W) tensor; uint8, or floats in 0..1. Its
    transforms are applied once, here. This runs the user's own code, as the user asked.
    """
    pair = _call(source)
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise DataError("the function returned something else", where=source, expected=FUNCTION_FORM,
                        got=type(pair).__name__)  # fmt: skip
    for part in pair:
        if not hasattr(part, "__len__") or not hasattr(part, "__getitem__"):
            raise DataError("not a map-style data set", where=source, expected=FUNCTION_FORM, got=type(part).__name__)
    train, test = (_collect((part[i] for i in range(len(part))), len(part), image_size=image_size,
                            memory_limit=memory_limit, where=f"{source} ({name})")
                   for part, name in zip(pair, ("train", "test"), strict=True))  # fmt: skip
    names = getattr(pair[0], "classes", None)
    classes = tuple(str(c) for c in names) if names else numbered([train[1], test[1]])
    return Source(name=source, classes=classes, train=train, test=test, augmentation=default_augmentation(train[0]))


def _call(source: str) -> Any:
    """What the user's function returns. DataError, with the user's own error as its cause, when it fails."""
    module, _, name = source.partition(":")
    try:
        function = getattr(importlib.import_module(module), name, None)
        if function is None:
            raise DataError(f"the module has no {name!r}", where=source, expected=FUNCTION_FORM)
        return function()
    except DataError:
        raise
    except ModuleNotFoundError as error:
        raise DataError(f"cannot import {error.name!r}", where=source, expected=FUNCTION_FORM,
                        hint="Is its folder on PYTHONPATH?") from error  # fmt: skip
    except Exception as error:  # the user's code may raise anything
        raise DataError("the function failed", where=source, got=f"{type(error).__name__}: {error}") from error


def _collect(rows: Iterable[tuple[Any, Any]], count: int, *, image_size: int | None, memory_limit: int,
             where: str) -> tuple[Tensor, Tensor]:  # fmt: skip
    """All ``count`` rows as one uint8 tensor (N, C, H, W) and int64 labels (N,)."""
    images: list[np.ndarray] = []
    labels: list[int] = []
    for image, label in rows:
        pixels = _pixels(image, image_size, where=f"{where}, image {len(images)}")
        if pixels.size * count > memory_limit:
            raise DataError("too large to be held in memory", where=where, expected=f"at most {memory_limit:,} bytes",
                            got=f"{count:,} images of {pixels.size:,} bytes",
                            hint="Write it as a folder of images, or give a smaller image_size.")  # fmt: skip
        if images and pixels.shape != images[0].shape:
            raise DataError("the images differ in shape", where=f"{where}, image {len(images)}",
                            expected=str(images[0].shape), got=pixels.shape, hint=SCALE_HINT)
        images.append(pixels)
        labels.append(_class_number(label, where=f"{where}, image {len(labels)}"))
    if not images:
        raise DataError("no images", where=where)
    return torch.from_numpy(np.stack(images)), label_tensor(np.array(labels), len(labels), where=where)


def _class_number(label: Any, *, where: str) -> int:
    try:
        return operator.index(label)
    except TypeError as error:
        raise DataError("labels must be integers", where=where, expected="class numbers from 0 on",
                        got=label) from error  # fmt: skip


def _pixels(image: Any, image_size: int | None, *, where: str) -> np.ndarray:
    """(C, H, W) uint8; a PIL image is brought to the stated size here, before the sizes are compared."""
    if isinstance(image, Tensor):
        pixels = image.detach().cpu().numpy()
        pixels = pixels[None] if pixels.ndim == 2 else pixels
    elif isinstance(image, np.ndarray):
        pixels = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    elif hasattr(image, "convert"):
        image = image if image_size is None else fitted(image, image_size, image_size)
        return pixels_of(image, 1 if image.mode in ("1", "L") else 3)
    else:
        raise DataError("not an image", where=where, expected="a PIL image, an array or a tensor",
                        got=type(image).__name__)  # fmt: skip
    if pixels.ndim != 3:
        raise DataError("not an image", where=where, expected="two or three dimensions", got=image.shape)
    return to_uint8(pixels, where=where, highest=1.0 if pixels.dtype.kind == "f" else 255.0)


def read_hugging_face(
    name: str, *, image_size: int | None, memory_limit: int, label: str | None = None, short: str | None = None,
    augmentation: Augmentation | None = None,
) -> Source:  # fmt: skip
    """A data set of the Hugging Face hub with an image column and a class-label column (``label`` names it).

    Needs the optional library ``datasets``, and the network unless its cache holds the data set. DataError tells how
    to install it, or what to write instead.
    """
    splits = _load_hub(name, short)
    train = splits.get("train")
    if train is None:
        raise DataError("no split named 'train'", where=f"hf:{name}", got=sorted(splits))
    images, column = _columns(train.features, label, where=f"hf:{name}")

    def read(*names: str) -> Labelled | None:
        found = next((splits[n] for n in names if n in splits), None)
        if found is None:
            return None
        return _collect(((row[images], row[column]) for row in found), len(found), image_size=image_size,
                        memory_limit=memory_limit, where=f"hf:{name}")  # fmt: skip

    data, test, validation = read("train"), read("test"), read("validation", "valid", "val")
    assert data is not None
    if test is None:
        validation, test = None, validation
    classes = tuple(str(c) for c in train.features[column].names)
    return Source(name=short or name, classes=classes, train=data, validation=validation, test=test,
                  augmentation=augmentation or default_augmentation(data[0]))  # fmt: skip


def _load_hub(name: str, short: str | None) -> Any:
    instead = f"set NAS_DATA to a folder with {short}.npz" if short else "give the path of an .npz file"
    try:
        import datasets
    except ImportError as error:
        raise DataError("the library `datasets` is not installed", where=f"hf:{name}",
                        hint=f"Install it with: pip install 'nas[hf]'; or {instead}.") from error  # fmt: skip
    try:
        return datasets.load_dataset(name)
    except Exception as error:  # the library raises dozens of kinds, from many packages
        raise DataError("cannot load the data set from the Hugging Face hub", where=f"hf:{name}",
                        got=f"{type(error).__name__}: {error}",
                        hint=f"Check the name and the network; or {instead}.") from error  # fmt: skip


def _columns(features: Any, label: str | None, *, where: str) -> tuple[str, str]:
    """Names of the image column and the label column."""
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    images = [name for name, kind in kinds.items() if kind == "Image"]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel" and label in (None, name)]
    if not images or not labels:
        raise DataError("not an image classification set", where=where, expected="an Image and a ClassLabel column",
                        got=kinds)  # fmt: skip
    return images[0], labels[0]
