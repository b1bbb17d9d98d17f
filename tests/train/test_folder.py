from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nas.errors import DataError
from nas.train import Augmentation, Dataset, load_data


def paint(path: Path, *, size: tuple[int, int] = (6, 5), grey: bool = False, value: int = 0) -> None:
    """A picture of (width, height) with one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if grey else (size[1], size[0], 3)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


def fill(root: Path, count: int, *, grey: bool = False, start: int = 0) -> Path:
    for label, name in enumerate(("cat", "dog")):
        for i in range(count):
            paint(root / name / f"{i:02}.png", grey=grey, value=start + 100 * label + i)
    return root


def values(images: object) -> list[int]:
    assert isinstance(images, torch.Tensor)
    return sorted(int(v) for v in images[:, 0, 0, 0])


def every_value(data: Dataset) -> list[int]:
    return sorted(v for split in (data.train, data.validation, data.test()) for v in values(split.images))


def test_class_folders(tmp_path: Path) -> None:
    data = load_data(str(fill(tmp_path, 10)))
    assert data.classes == ("cat", "dog")
    assert data.input_shape == (3, 5, 6)
    assert every_value(data) == [*range(10), *range(100, 110)]
    assert torch.equal(data.train.labels, (data.train.images[:, 0, 0, 0] >= 100).long())


def test_three_folders(tmp_path: Path) -> None:
    for part, count, start in (("train", 6, 0), ("valid", 3, 20), ("test", 2, 40)):
        fill(tmp_path / part, count, start=start)
    data = load_data(str(tmp_path))
    assert values(data.train.images) == [*range(6), *range(100, 106)]
    assert values(data.validation.images) == [20, 21, 22, 120, 121, 122]
    assert values(data.test().images) == [40, 41, 140, 141]


@pytest.mark.parametrize("second", ["test", "val"])
def test_the_one_folder_beside_train_is_the_test_split(tmp_path: Path, second: str) -> None:
    fill(tmp_path / "train", 10)
    fill(tmp_path / second, 2, start=40)
    data = load_data(str(tmp_path))
    assert values(data.test().images) == [40, 41, 140, 141]
    assert (len(data.train), len(data.validation)) == (16, 4)


def test_grey_images_stay_grey_and_one_colour_class_makes_all_colour(tmp_path: Path) -> None:
    fill(tmp_path, 5, grey=True)
    assert load_data(str(tmp_path)).input_shape == (1, 5, 6)
    paint(tmp_path / "cat" / "00.png")
    assert load_data(str(tmp_path)).input_shape == (3, 5, 6)


def test_different_sizes_need_a_stated_size(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    paint(tmp_path / "dog" / "03.png", size=(16, 9), value=103)
    with pytest.raises(DataError, match=r"03\.png: the images differ in size; expected 6x5; got '16x9'.*image_size"):
        load_data(str(tmp_path))
    data = load_data(str(tmp_path), image_size=4)
    assert data.input_shape == (3, 4, 4)
    assert every_value(data) == [*range(5), *range(100, 105)]


def test_empty_class_is_named(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    (tmp_path / "bird").mkdir()
    (tmp_path / "bird" / "notes.txt").write_text("none yet")
    with pytest.raises(DataError, match="class 'bird' has no images"):
        load_data(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_unreadable_file_is_named(tmp_path: Path, content: bytes) -> None:
    fill(tmp_path, 3)
    (tmp_path / "cat" / "02.png").write_bytes(content)
    with pytest.raises(DataError, match=r"cat.02\.png: not a readable image"):
        load_data(str(tmp_path))


def test_cut_file_is_named(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    file = tmp_path / "cat" / "02.png"
    noise = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"02\.png: not a readable image"):
        load_data(str(tmp_path))


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no class folders"):
        load_data(str(tmp_path))
    for i in range(3):
        paint(tmp_path / "cat" / f"{i}.png")
    with pytest.raises(DataError, match="only one class"):
        load_data(str(tmp_path))


def test_class_known_in_one_part_only(tmp_path: Path) -> None:
    fill(tmp_path / "train", 4)
    fill(tmp_path / "test", 2)
    paint(tmp_path / "test" / "bird" / "0.png")
    with pytest.raises(DataError, match="'bird' is not among the training classes"):
        load_data(str(tmp_path))


# streamed from disk


@pytest.mark.parametrize("workers", [0, 1])
def test_streamed_batches_equal_those_in_memory(tmp_path: Path, workers: int) -> None:
    fill(tmp_path, 10)
    memory = load_data(str(tmp_path), image_size=5)
    disk = load_data(str(tmp_path), image_size=5, memory_limit=100, workers=workers)
    assert not isinstance(disk.train.images, torch.Tensor)
    assert (disk.mean, disk.std, disk.input_shape) == (memory.mean, memory.std, memory.input_shape)
    how = Augmentation(crop_padding=1, flip=True, cutout=2)
    pairs = zip(
        [*disk.test().batches(3), *disk.train.train_batches(5, how, torch.Generator().manual_seed(3))],
        [*memory.test().batches(3), *memory.train.train_batches(5, how, torch.Generator().manual_seed(3))], strict=True,
    )  # fmt: skip
    for (images, labels), (expected, expected_labels) in pairs:
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)


def test_streaming_needs_a_size(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    with pytest.raises(DataError, match="Give image_size=224"):
        load_data(str(tmp_path), memory_limit=100)


@pytest.mark.parametrize("workers", [0, 1])
def test_streamed_file_that_breaks_later_is_named(tmp_path: Path, workers: int) -> None:
    fill(tmp_path, 10)
    data = load_data(str(tmp_path), image_size=5, memory_limit=100, workers=workers)
    broken = data.test().images.paths[0]
    broken.write_bytes(b"gone")
    with pytest.raises(DataError, match="not a readable image") as caught:
        list(data.test().batches(4))
    assert str(broken) in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_streamed_fingerprint_follows_the_files(tmp_path: Path) -> None:
    fill(tmp_path, 5)
    first = load_data(str(tmp_path), image_size=5, memory_limit=100).fingerprint
    assert load_data(str(tmp_path), image_size=5, memory_limit=100).fingerprint == first
    paint(tmp_path / "cat" / "00.png", size=(60, 50))
    assert load_data(str(tmp_path), image_size=5, memory_limit=100).fingerprint != first
