"""A folder of images, one sub-folder a class, optionally under ``train``, ``val`` and ``test``."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from nas.errors import DataError
from nas.train.images import ImageFiles, Images, open_image
from nas.train.source import Labelled, Source, default_augmentation

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
VALIDATION = ("val", "valid", "validation")
FORM = "a folder of class folders, or one with train/ and optionally val/ and test/ that hold them"


def read_folder(folder: Path, *, image_size: int | None, memory_limit: int, workers: int) -> Source:
    """Images by class. They stay on disk when all of them, decoded, would take more than ``memory_limit`` bytes.

    With only one of ``test`` and ``val`` beside ``train``, that one is the test split. Images are grey when the first
    one of every class is, else RGB. Raises DataError for empty classes, unreadable files, and unequal sizes without
    ``image_size``.
    """
    parts = _parts(folder)
    classes = _class_names(parts["train"])
    files = {part: _list_files(root, classes) for part, root in parts.items()}
    shape = _image_shape(files["train"], image_size)
    num_bytes = sum(len(paths) for paths, _ in files.values()) * shape[0] * shape[1] * shape[2]
    streamed = num_bytes > memory_limit
    if streamed and image_size is None:
        raise DataError("the images exceed the memory limit; to read them batch by batch takes one size",
                        where=str(folder), expected="a stated size",
                        hint="Give image_size=224 to nas search, deploy=input=3x224x224 to nas train.")  # fmt: skip

    def load(part: str) -> Labelled | None:
        if part not in files:
            return None
        paths, labels = files[part]
        images = ImageFiles(paths=paths, channels=shape[0], height=shape[1], width=shape[2],
                            resize=image_size is not None, workers=workers)  # fmt: skip
        return _in_memory(images, streamed), labels

    train = load("train")
    assert train is not None
    return Source(name=folder.resolve().name, classes=classes, train=train, validation=load("val"), test=load("test"),
                  augmentation=default_augmentation(train[0]))  # fmt: skip


def _in_memory(images: ImageFiles, streamed: bool) -> Images:
    return images if streamed else images.load_all(range(len(images)))


def _parts(folder: Path) -> dict[str, Path]:
    """train, and where there are such: val and test."""
    if not (folder / "train").is_dir():
        return {"train": folder}
    validation = next((folder / name for name in VALIDATION if (folder / name).is_dir()), None)
    test = folder / "test" if (folder / "test").is_dir() else None
    if test is None and validation is not None:
        validation, test = None, validation
    found = {"train": folder / "train", "val": validation, "test": test}
    return {part: path for part, path in found.items() if path is not None}


def _class_names(root: Path) -> tuple[str, ...]:
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise DataError("no class folders", where=str(root), expected=FORM)
    return tuple(names)


def _list_files(root: Path, classes: tuple[str, ...]) -> tuple[tuple[Path, ...], Tensor]:
    """All image files under every class folder, sorted, and their labels."""
    if unknown := [name for name in _class_names(root) if name not in classes]:
        raise DataError(f"class {unknown[0]!r} is not among the training classes", where=str(root))
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(p for p in (root / name).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise DataError(f"class {name!r} has no images", where=str(root / name),
                            expected=f"files ending in {', '.join(sorted(SUFFIXES))}",
                            hint="Add images, or remove the folder.")  # fmt: skip
        paths += found
        labels += [label] * len(found)
    return tuple(paths), torch.tensor(labels)


def _image_shape(files: tuple[tuple[Path, ...], Tensor], image_size: int | None) -> tuple[int, int, int]:
    """(C, H, W) that all images shall have, from the first image of every class."""
    paths, labels = files
    first = [int(torch.nonzero(labels == label)[0]) for label in range(int(labels[-1]) + 1)]
    images = [open_image(paths[index]) for index in first]
    channels = 1 if all(image.mode in ("1", "L", "I", "I;16", "F") for image in images) else 3
    if image_size is not None:
        return channels, image_size, image_size
    return channels, images[0].height, images[0].width
