from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.train.augment import (
    Augmentation,
    Normalise,
    augment,
    cut_out_,
    mix_up,
    random_crop,
    random_flip,
    random_resized_crop,
)


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


@settings(deadline=None, max_examples=30)
@given(least=st.floats(0.01, 1), seed=st.integers(0, 1000))
def test_resized_crop_shows_a_part_of_the_image_and_nothing_else(least: float, seed: int) -> None:
    """On a ramp from 0 to 1 the crop's values tell where it was taken: a window of at least the share, never outside."""
    ramp = torch.linspace(0, 1, 16).expand(5, 1, 16, 16)
    out = random_resized_crop(torch.cat([ramp, ramp.transpose(2, 3)], 1).clone(), least, generator(seed))
    assert out.shape == (5, 2, 16, 16)
    assert float(out.min()) >= -1e-6
    assert float(out.max()) <= 1 + 1e-6
    wide = out[:, 0, 0, -1] - out[:, 0, 0, 0]
    high = out[:, 1, -1, 0] - out[:, 1, 0, 0]
    assert bool((wide > 0).all())
    assert bool((wide * high <= 1.001).all())
    torch.testing.assert_close(out[:, 0, 0], out[:, 0, 9])


def test_a_crop_of_the_whole_is_nearly_the_image() -> None:
    batch = torch.rand(30, 3, 16, 16, generator=generator(1))
    out = random_resized_crop(batch, 1.0, generator())
    wholes = [torch.allclose(o, b, atol=1e-5) for o, b in zip(out, batch, strict=True)]
    assert not all(wholes), "the shape of the part varies"
    torch.testing.assert_close(out.mean(), batch.mean(), atol=0.02, rtol=0)


def test_mixup_is_a_weighted_mean_with_the_neighbour() -> None:
    batch = torch.rand(4, 1, 2, 2, generator=generator(1))
    torch.testing.assert_close(mix_up(batch, 0.75)[1], 0.75 * batch[1] + 0.25 * batch[0])
    torch.testing.assert_close(mix_up(batch, 0.75)[0], 0.75 * batch[0] + 0.25 * batch[3])
    assert torch.equal(mix_up(batch, 1.0), batch)


def test_images_are_scaled_last() -> None:
    how = Augmentation(crop_padding=1, resized_crop=0.5, cutout=3, size=4)
    out = augment(images(6, 3, 8), Normalise((0.5,) * 3, (0.2,) * 3, torch.device("cpu")), how, generator())
    assert out.shape == (6, 3, 4, 4)
