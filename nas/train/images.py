"""Images as the trainer holds them: one uint8 tensor, or files that are decoded when a batch asks for them."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nas.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SCALE_HINT = "Scale them to one: image_size=64 of nas search, deploy=input=3x64x64 of nas train."
RESIZE_CHUNK = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageFiles:
    """Image files that stay on disk. Each becomes a uint8 (channels, height, width) tensor; channels is 1 or 3.

    With ``resize`` every image is scaled and centre-cropped to that size; without it, one of another size is an error.
    ``workers`` is the number of processes that decode them for training.
    """

    paths: tuple[Path, ...]
    channels: int
    height: int
    width: int
    resize: bool
    workers: int = 0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W), as the tensor of all images would have it."""
        return len(self.paths), self.channels, self.height, self.width

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> Tensor:
        """Image ``index`` as a uint8 (C, H, W) tensor. Raises DataError naming a file that cannot be used."""
        path = self.paths[index]
        image = open_image(path)
        if image.size != (self.width, self.height):
            if not self.resize:
                raise DataError("the images differ in size", where=str(path), expected=f"{self.width}x{self.height}",
                                got=f"{image.width}x{image.height}", hint=SCALE_HINT)  # fmt: skip
            image = fitted(image, self.width, self.height)
        return torch.from_numpy(pixels_of(image, self.channels))

    def load_all(self, indices: Iterable[int]) -> Tensor:
        """The images of ``indices`` in that order, (n, C, H, W) uint8; decoded by several threads."""
        with ThreadPoolExecutor() as pool:
            return torch.stack(list(pool.map(self.load, indices)))


Images = Tensor | ImageFiles


def take(images: Images, index: Tensor) -> Images:
    """The images at ``index`` (int64, on the CPU), in that order."""
    if isinstance(images, Tensor):
        return images[index]
    return ImageFiles(paths=tuple(images.paths[i] for i in index.tolist()), channels=images.channels,
                      height=images.height, width=images.width, resize=images.resize,
                      workers=images.workers)  # fmt: skip


def open_image(path: Path) -> Image:
    """The decoded image. Raises DataError naming the file."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError("not a readable image", where=str(path), got=str(error),
                        hint="Remove or replace the file.") from error  # fmt: skip


def fitted(image: Image, width: int, height: int) -> Image:
    """The image scaled to cover that size, and cropped around its centre."""
    from PIL import ImageOps

    return ImageOps.fit(image.convert("RGB") if image.mode == "P" else image, (width, height))


def pixels_of(image: Image, channels: int) -> np.ndarray:
    """A PIL image as a writable uint8 (channels, H, W) array: grey for one channel, RGB for three."""
    pixels = np.array(image.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def to_uint8(pixels: np.ndarray, *, where: str, highest: float = 255.0) -> np.ndarray:
    """Pixels as uint8. Numbers must lie in 0..1, or up to ``highest``; anything else is a DataError.

    Floats that do not exceed 1 are taken for 0..1, so a single image, which may be black, needs ``highest`` 1.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind not in "fiub":
        raise DataError("images must be numbers", where=where, expected="uint8, or floats in 0..1",
                        got=str(pixels.dtype))  # fmt: skip
    low, high = (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 0.0)
    if not 0.0 <= low <= high <= highest:  # also refuses NaN
        raise DataError("pixel values are out of range", where=where, expected=f"values in 0..{highest:g}",
                        got=f"{low:g}..{high:g}", hint="Give images before any normalisation.")  # fmt: skip
    scale = 255.0 if pixels.dtype.kind in "fb" and high <= 1.0 else 1.0
    return np.rint(pixels * np.float32(scale)).astype(np.uint8)


def resized(images: Tensor, size: int) -> Tensor:
    """uint8 images (N, C, H, W) scaled to (N, C, size, size), bilinear with anti-aliasing."""
    if tuple(images.shape[2:]) == (size, size):
        return images
    parts = [F.interpolate(part, (size, size), mode="bilinear", antialias=True)
             for part in torch.split(images, RESIZE_CHUNK)]  # fmt: skip
    return torch.cat(parts)
