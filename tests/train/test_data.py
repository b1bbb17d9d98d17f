from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import DataError
from nas.train import Dataset, load_data


def codes(images: object) -> set[bytes]:
    assert isinstance(images, torch.Tensor)
    return {image.numpy().tobytes() for image in images}


@pytest.fixture(scope="module")
def numbered_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """60 images, each different from all others; the 12 of the test split have 255 in the corner."""
    x = np.arange(60, dtype=np.uint8)[:, None, None] * np.ones((1, 3, 3), np.uint8)
    x[48:, 0, 0] = 255
    path = tmp_path_factory.mktemp("data") / "set.npz"
    np.savez(path, x_train=x[:48], y_train=np.arange(48) % 3, x_test=x[48:], y_test=np.arange(12) % 3)
    return str(path)


def test_digits(digits: Dataset) -> None:
    assert digits.input_shape == (1, 8, 8)
    assert digits.num_classes == 10
    assert (len(digits.train), len(digits.validation), len(digits.test())) == (1150, 288, 359)
    assert not digits.augmentation.flip
    assert digits.train.images.dtype == torch.uint8
    assert digits.train.labels.dtype == torch.int64
    assert int(digits.train.images.max()) == 255
    for split in (digits.train, digits.validation, digits.test()):
        shares = torch.bincount(split.labels).float() / len(split)
        assert float((shares - 0.1).abs().max()) < 0.01


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), validation=st.floats(0.1, 0.8), limit=st.none() | st.integers(3, 50))
def test_splits_are_disjoint_and_the_test_split_never_leaks(
    numbered_file: str, seed: int, validation: float, limit: int | None
) -> None:
    data = load_data(numbered_file, seed=seed, validation=validation, limit=limit)
    train, held, test = codes(data.train.images), codes(data.validation.images), codes(data.test().images)
    assert len(train) + len(held) + len(test) == len(train | held | test)
    assert len(test) == 12
    assert not any(code[0] == 255 for code in train | held)
    assert len(held) == pytest.approx(validation * 48, abs=2)
    if limit is None:
        assert len(train | held) == 48
    else:
        assert len(train) <= max(limit + 2, 3)
    for split in (data.train, data.validation, data.test()):
        counts = torch.bincount(split.labels, minlength=3)
        assert int(counts.max() - counts.min()) <= 2


def test_seed_decides_the_split_and_the_fingerprint(numbered_file: str) -> None:
    first, same, other = (load_data(numbered_file, seed=seed) for seed in (1, 1, 2))
    assert first.fingerprint == same.fingerprint
    assert torch.equal(first.validation.images, same.validation.images)
    assert first.fingerprint != other.fingerprint


def test_limit_leaves_validation_alone(numbered_file: str) -> None:
    full, few = load_data(numbered_file), load_data(numbered_file, limit=9)
    assert len(few.train) == 9
    assert torch.equal(full.validation.images, few.validation.images)
    assert codes(few.train.images) < codes(full.train.images)


@pytest.mark.parametrize("part", ["x_train", "y_train", "x_test", "y_test"])
def test_fingerprint_sees_one_changed_number(numbered_file: str, tmp_path: Path, part: str) -> None:
    with np.load(numbered_file) as file:
        content = dict(file)
    content[part] = content[part].copy()
    content[part].flat[0] = 1 - content[part].flat[0] % 2
    np.savez(tmp_path / "set.npz", **content)
    assert load_data(str(tmp_path / "set.npz")).fingerprint != load_data(numbered_file).fingerprint


def test_statistics_are_those_of_the_training_split(numbered_file: str) -> None:
    data = load_data(numbered_file)
    pixels = data.train.images / 255.0
    assert data.mean[0] == pytest.approx(float(pixels.mean()), abs=1e-6)
    assert data.std[0] == pytest.approx(float(pixels.std(correction=0)), abs=1e-6)
    assert data.test().mean == data.validation.mean == data.mean


def test_sealed_data_has_no_test_split(numbered_file: str) -> None:
    data = load_data(numbered_file)
    sealed = data.sealed().to("cpu")
    with pytest.raises(DataError, match="sealed during a search"):
        sealed.test()
    assert sealed.fingerprint == data.fingerprint
    assert len(data.test()) == 12
    assert "_test" not in repr(data)


def test_image_size_scales_every_split(numbered_file: str) -> None:
    data = load_data(numbered_file, image_size=6)
    assert {tuple(s.images.shape[1:]) for s in (data.train, data.validation, data.test())} == {(1, 6, 6)}
    with pytest.raises(DataError, match="must be positive"):
        load_data(numbered_file, image_size=0)


@pytest.mark.skipif("NAS_DATA" not in os.environ, reason="NAS_DATA names no folder with cifar10.npz")
def test_real_cifar10() -> None:
    data = load_data("cifar10", validation=0.1)
    assert (len(data.train), len(data.validation), len(data.test())) == (45_000, 5_000, 10_000)
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=2e-3)
    assert data.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=2e-3)
    assert torch.bincount(data.validation.labels).tolist() == [500] * 10
