from __future__ import annotations

import builtins
import gzip
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nas.errors import DataError
from nas.train import Augmentation, load_data

RNG = np.random.default_rng(0)


def arrays(train: int = 40, test: int = 10, shape: tuple[int, ...] = (6, 5, 3), classes: int = 2) -> dict[str, Any]:
    return {
        "x_train": RNG.integers(0, 256, (train, *shape), dtype=np.uint8), "y_train": np.arange(train) % classes,
        "x_test": RNG.integers(0, 256, (test, *shape), dtype=np.uint8), "y_test": np.arange(test) % classes,
    }  # fmt: skip


def save(path: Path, **content: Any) -> str:
    np.savez(path, **content)
    return str(path)


# .npz


def test_npz_colour(tmp_path: Path) -> None:
    content = arrays()
    data = load_data(save(tmp_path / "set.npz", **content, classes=np.array(["cat", "dog"])))
    assert data.input_shape == (3, 6, 5)
    assert data.classes == ("cat", "dog")
    assert data.augmentation.flip
    assert torch.equal(data.test().images, torch.from_numpy(content["x_test"].transpose(0, 3, 1, 2).copy()))
    assert torch.equal(data.test().labels, torch.from_numpy(content["y_test"]))
    assert len(data.train) + len(data.validation) == 40


def test_npz_grey_is_not_flipped(tmp_path: Path) -> None:
    data = load_data(save(tmp_path / "set.npz", **arrays(shape=(8, 8))))
    assert data.input_shape == (1, 8, 8)
    assert data.augmentation == Augmentation(crop_padding=1)


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_npz_floats(tmp_path: Path, scale: float) -> None:
    content = arrays()
    exact = content["x_test"]
    content |= {k: content[k].astype(np.float32) / 255.0 * scale for k in ("x_train", "x_test")}
    data = load_data(save(tmp_path / "set.npz", **content))
    assert torch.equal(data.test().images, torch.from_numpy(exact.transpose(0, 3, 1, 2).copy()))


def test_npz_own_validation_split(tmp_path: Path) -> None:
    content = arrays()
    path = save(tmp_path / "set.npz", **content, x_val=content["x_train"][:6], y_val=content["y_train"][:6])
    data = load_data(path)
    assert (len(data.train), len(data.validation)) == (40, 6)
    with pytest.raises(DataError, match="a validation split of its own"):
        load_data(path, validation=0.1)


def test_npz_without_test_holds_out_the_same_images_for_every_seed(tmp_path: Path) -> None:
    content = arrays(train=50)
    path = save(tmp_path / "set.npz", x_train=content["x_train"], y_train=content["y_train"])
    first, second = load_data(path, seed=1), load_data(path, seed=2)
    assert len(first.test()) == 10
    assert torch.equal(first.test().images, second.test().images)
    assert not torch.equal(first.validation.images, second.validation.images)


BROKEN = {
    "missing y_train": ({"y_train": None}, "'y_train' is missing"),
    "missing y_test": ({"y_test": None}, "'y_test' is missing"),
    "channels first": ({"x_train": np.zeros((40, 3, 32, 32), np.uint8)}, "transpose"),
    "not images": ({"x_train": np.zeros((40, 7), np.uint8)}, "not a set of images"),
    "no images": ({"x_train": np.zeros((0, 6, 5, 3), np.uint8)}, "not a set of images"),
    "normalised": ({"x_train": np.full((40, 6, 5, 3), -1.0)}, "out of range"),
    "nan": ({"x_train": np.full((40, 6, 5, 3), np.nan)}, "out of range"),
    "text": ({"x_train": np.full((40, 6, 5, 3), "a")}, "images must be numbers"),
    "pickle": ({"x_train": np.array([{}], dtype=object)}, "not a readable .npz"),
    "too few labels": ({"y_train": np.zeros(39, int)}, "labels do not fit"),
    "float labels": ({"y_train": np.zeros(40)}, "must be integers"),
    "negative labels": ({"y_train": np.full(40, -1)}, "from 0 on"),
    "one class": ({"y_train": np.zeros(40, int), "y_test": np.zeros(10, int)}, "only one class"),
    "empty class": ({"y_train": np.arange(40) % 2 * 2}, "class '1' has no training images"),
    "too few names": ({"classes": np.array(["cat"])}, "no class name"),
    "other shape": ({"x_test": np.zeros((10, 9, 9, 3), np.uint8)}, "differ in image shape"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_npz(tmp_path: Path, case: str) -> None:
    change, message = BROKEN[case]
    content = {k: v for k, v in (arrays() | change).items() if v is not None}
    path = save(tmp_path / "set.npz", **content)
    with pytest.raises(DataError, match=message) as caught:
        load_data(path)
    assert "set.npz" in str(caught.value)


@pytest.mark.parametrize("keep", [0, 10, 2000])
def test_truncated_npz(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "set.npz"
    save(path, **arrays())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"not a readable \.npz"):
        load_data(str(path))


# idx


def write_idx(path: Path, array: np.ndarray, *, pack: bool = True) -> None:
    raw = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(raw) if pack else raw)


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    content = arrays(shape=(7, 7))
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", content["x_train"])
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", content["y_train"])
    write_idx(tmp_path / "t10k-images-idx3-ubyte", content["x_test"], pack=False)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", content["y_test"])
    np.save(tmp_path / "x_test.npy", content["x_test"])
    return tmp_path


def test_idx_folder(idx_folder: Path) -> None:
    data = load_data(str(idx_folder))
    assert data.input_shape == (1, 7, 7)
    assert torch.equal(data.test().images[:, 0], torch.from_numpy(np.load(idx_folder / "x_test.npy")))


@pytest.mark.parametrize(("content", "message"), [
    (b"", "not an idx"), (b"no gzip", "not a readable gzip"), (gzip.compress(b"\0\0\x08\3abc"), "not an idx"),
    (gzip.compress(b"\0\0\x0d\1\0\0\0\1x"), "not an idx"), (gzip.compress(b"\0\0\x08\1\0\0\0\x05abc"), "cut short"),
])  # fmt: skip
def test_broken_idx(idx_folder: Path, content: bytes, message: str) -> None:
    (idx_folder / "train-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_data(str(idx_folder))
    assert "train-labels" in str(caught.value)


def test_missing_idx_file_is_named(idx_folder: Path) -> None:
    (idx_folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz is missing"):
        load_data(str(idx_folder))


# the user's function


class Rows:
    """A map-style data set of (image, label)."""

    def __init__(self, images: list[Any], classes: list[str] | None = None) -> None:
        self.images = images
        if classes:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index >= len(self.images):
            raise IndexError
        return self.images[index], index % 2


@pytest.fixture
def user_module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("my_sets")
    monkeypatch.setitem(sys.modules, "my_sets", module)
    return module


PIXELS = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
KINDS = {
    "pil": Image.fromarray(PIXELS), "array": PIXELS, "tensor": torch.from_numpy(PIXELS).permute(2, 0, 1),
    "float tensor": torch.from_numpy(PIXELS).permute(2, 0, 1) / 255,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_function(user_module: types.ModuleType, kind: str) -> None:
    user_module.make = lambda: (Rows([KINDS[kind]] * 20, ["a", "b"]), Rows([KINDS[kind]] * 4))
    data = load_data("my_sets:make")
    assert data.classes == ("a", "b")
    assert torch.equal(data.test().images[0], torch.from_numpy(PIXELS).permute(2, 0, 1))
    assert len(data.test()) == 4


@pytest.mark.parametrize("grey", [Image.fromarray(PIXELS[:, :, 0]), PIXELS[:, :, 0], torch.from_numpy(PIXELS[:, :, 0])])
def test_function_with_grey_images(user_module: types.ModuleType, grey: Any) -> None:
    user_module.make = lambda: (Rows([grey] * 20), Rows([grey] * 4))
    assert load_data("my_sets:make").input_shape == (1, 4, 5)


@pytest.mark.parametrize(("result", "message"), [
    (3, "returned something else"), ((1, 2), "not a map-style data set"), ((Rows([]), Rows([])), "no images"),
    ((Rows(["x"]), Rows([])), "not an image"), ((Rows([PIXELS, PIXELS[1:]]), Rows([])), "differ in shape"),
    ((Rows([torch.zeros(3)]), Rows([])), "not an image"),
    ((Rows([torch.full((3, 4, 4), -2.0)]), Rows([])), "out of range"),
    ((Rows([torch.full((3, 4, 4), 2.0)]), Rows([])), "out of range"),
])  # fmt: skip
def test_function_that_returns_something_else(user_module: types.ModuleType, result: Any, message: str) -> None:
    user_module.make = lambda: result
    with pytest.raises(DataError, match=message):
        load_data("my_sets:make")


def test_function_with_images_of_several_sizes(user_module: types.ModuleType) -> None:
    sizes = [Image.new("RGB", (4 + i % 3, 5), (i, 0, 0)) for i in range(20)]
    user_module.make = lambda: (Rows(sizes), Rows(sizes[:4]))
    with pytest.raises(DataError, match="image_size=64"):
        load_data("my_sets:make")
    data = load_data("my_sets:make", image_size=3)
    assert data.test().images[:, :, 1, 1].tolist() == [[i, 0, 0] for i in range(4)]
    with pytest.raises(DataError, match=r"too large to be held in memory.*20 images of 27 bytes"):
        load_data("my_sets:make", image_size=3, memory_limit=500)


def test_function_that_fails(user_module: types.ModuleType) -> None:
    user_module.make = lambda: 1 / 0
    with pytest.raises(DataError, match="the function failed; got 'ZeroDivisionError") as caught:
        load_data("my_sets:make")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_label_that_is_no_number(user_module: types.ModuleType) -> None:
    user_module.make = lambda: ([(PIXELS, "cat")], [(PIXELS, "cat")])
    with pytest.raises(DataError, match="image 0: labels must be integers"):
        load_data("my_sets:make")


def test_function_that_cannot_be_imported(user_module: types.ModuleType) -> None:
    with pytest.raises(DataError, match="PYTHONPATH"):
        load_data("no_such_package.module:make")
    with pytest.raises(DataError, match="has no 'make'"):
        load_data("my_sets:make")


# the Hugging Face hub


class ClassLabel:
    names = ("a", "b")


class Hub(list[dict[str, Any]]):
    """The parts of a `datasets.Dataset` that are used."""

    def __init__(self, count: int, columns: tuple[str, ...] = ("coarse_label", "fine_label")) -> None:
        super().__init__({"img": KINDS["pil"], "coarse_label": 0, "fine_label": i % 2} for i in range(count))
        self.features = {"img": type("Image", (), {})(), **{name: ClassLabel() for name in columns}}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The splits that a stand-in for `datasets.load_dataset` returns, and under "asked" what it was asked for."""
    content: dict[str, Any] = {}

    def load_dataset(name: str) -> dict[str, Any]:
        content["asked"] = name
        if "error" in content:
            raise content["error"]
        return {k: v for k, v in content.items() if k != "asked"}

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.delenv("NAS_DATA", raising=False)
    return content


def test_hub_plain_name_uses_its_label_column(hub: dict[str, Any]) -> None:
    hub |= {"train": Hub(20), "test": Hub(4)}
    data = load_data("cifar100")
    assert hub["asked"] == "uoft-cs/cifar100"
    assert data.name == "cifar100"
    assert data.test().labels.tolist() == [0, 1, 0, 1]
    assert data.augmentation == Augmentation(crop_padding=4, flip=True)


def test_hub_any_name_with_one_more_split(hub: dict[str, Any]) -> None:
    hub |= {"train": Hub(20, ("fine_label",)), "validation": Hub(6)}
    data = load_data("hf:someone/photos")
    assert hub["asked"] == "someone/photos"
    assert (len(data.train), len(data.validation), len(data.test())) == (16, 4, 6)


@pytest.mark.parametrize(("content", "message"), [
    ({"test": Hub(2)}, "no split named 'train'"), ({"error": ConnectionError("offline")}, "offline"),
])  # fmt: skip
def test_hub_errors(hub: dict[str, Any], content: dict[str, Any], message: str) -> None:
    hub |= content
    with pytest.raises(DataError, match=message):
        load_data("hf:someone/photos")


def test_hub_set_without_images(hub: dict[str, Any]) -> None:
    hub["train"] = Hub(2)
    hub["train"].features = {"text": object()}
    with pytest.raises(DataError, match="not an image classification set"):
        load_data("hf:someone/texts")


def test_missing_library_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.delenv("NAS_DATA", raising=False)
    with pytest.raises(DataError, match=r"pip install 'nas\[hf\]'; or set NAS_DATA to a folder with mnist\.npz"):
        load_data("mnist")
    with pytest.raises(DataError, match=r"give the path of an \.npz file"):
        load_data("hf:someone/photos")


# names


def test_plain_name_reads_the_file_in_nas_data_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "fashion_mnist.npz", **arrays(shape=(28, 28)))
    monkeypatch.setenv("NAS_DATA", str(tmp_path))
    data = load_data("fashion_mnist")
    assert (data.name, data.input_shape) == ("fashion_mnist", (1, 28, 28))
    assert data.augmentation == Augmentation(crop_padding=2, flip=True)


@pytest.mark.parametrize(("word", "known"), [("cifr10", "cifar10"), ("digit", "digits"), ("fmnist", "mnist")])
def test_misspelt_name(word: str, known: str) -> None:
    with pytest.raises(DataError, match=f"Did you mean '{known}'") as caught:
        load_data(word)
    assert "an .npz file" in str(caught.value)


@pytest.mark.parametrize("word", ["", "zzz", "no/such/folder", "hf:"])
def test_unknown_word_lists_the_forms(word: str) -> None:
    with pytest.raises(DataError, match=r"package\.module:function"):
        load_data(word)


def test_missing_npz_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_data(str(tmp_path / "none.npz"))
    (tmp_path / "set.csv").write_text("1,2")
    with pytest.raises(DataError, match="not a data set"):
        load_data(str(tmp_path / "set.csv"))
