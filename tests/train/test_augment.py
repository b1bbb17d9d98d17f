from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.train.augment import Augmentation, Normalise, augment, cut_out_, random_crop, random_flip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 6, channels: int = 3, size: int = 8) -> torch.Tensor:
    return torch.randint(1, 256, (count, channels, size, size + 1), generator=generator(9), dtype=torch.uint8)


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 5), channels=st.sampled_from([1, 3]), padding=st.integers(0, 4), flip=st.booleans(),
       cutout=st.integers(0, 9), seed=st.integers(0, 1000))  # fmt: skip
def test_shape_range_and_determinism(count: int, channels: int, padding: int, flip: bool, cutout: int,
                                     seed: int) -> None:  # fmt: skip
    batch = images(count, channels)
    before = batch.clone()
    how = Augmentation(crop_padding=padding, flip=flip, cutout=cutout)
    normalise = Normalise((0.4,) * channels, (0.2,) * channels, torch.device("cpu"))
    out = augment(batch, normalise, how, generator(seed))
    assert out.shape == batch.shape
    assert out.dtype == torch.float32
    assert float(out.min()) >= -2.0001
    assert float(out.max()) <= 3.0001
    assert torch.equal(out, augment(batch, normalise, how, generator(seed)))
    assert torch.equal(batch, before)


def test_every_crop_is_a_window_of_the_padded_image() -> None:
    batch, padding = images(40), 2
    padded = torch.nn.functional.pad(batch, (padding,) * 4)
    offsets = set()
    for image, crop in zip(padded, random_crop(batch, padding, generator()), strict=True):
        found = [(y, x) for y in range(5) for x in range(5) if torch.equal(crop, image[:, y : y + 8, x : x + 9])]
        assert len(found) == 1
        offsets.add(found[0])
    assert len(offsets) > 10


def test_flip_mirrors_about_half_and_leaves_the_rest() -> None:
    batch = images(200, 1)
    out = random_flip(batch, generator())
    mirrored = [bool(torch.equal(o, b.flip(-1))) for o, b in zip(out, batch, strict=True)]
    kept = [bool(torch.equal(o, b)) for o, b in zip(out, batch, strict=True)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    assert 70 < sum(mirrored) < 130


@pytest.mark.parametrize("size", [1, 3, 4])
def test_cutout_zeroes_one_square_an_image(size: int) -> None:
    out = cut_out_(torch.ones(50, 2, 8, 9), size, generator())
    areas = (out[:, 0] == 0).sum((1, 2))
    assert torch.equal(out[:, 0], out[:, 1])
    assert int(areas.max()) == size * size
    for hole in out[:, 0] == 0:
        rows, columns = hole.any(1).sum(), hole.any(0).sum()
        assert int(hole.sum()) == int(rows * columns)


def test_normalise_is_the_formula() -> None:
    batch = images()
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    expected = (batch / 255.0 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(Normalise(mean, std, torch.device("cpu"))(batch), expected, rtol=1e-5, atol=1e-5)
