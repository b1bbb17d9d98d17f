from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.train import Augmentation, Dataset, Split
from nas.train.split import num_batches, statistics


def numbered(count: int) -> Split:
    """Image i is filled with i, and so is its label."""
    labels = torch.arange(count)
    images = labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
    return Split(images=images, labels=labels, num_classes=count, mean=(0.0,), std=(1 / 255,))


@settings(deadline=None, max_examples=50)
@given(count=st.integers(2, 250), batch_size=st.integers(2, 64), seed=st.integers(0, 99))
def test_an_epoch_sees_every_image_once_in_even_batches(count: int, batch_size: int, seed: int) -> None:
    batches = list(numbered(count).train_batches(batch_size, Augmentation(), torch.Generator().manual_seed(seed)))
    sizes = [len(labels) for _, labels in batches]
    assert len(sizes) == num_batches(count, batch_size)
    assert max(sizes) <= max(batch_size, 3)
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 2
    labels = torch.cat([labels for _, labels in batches])
    assert sorted(labels.tolist()) == list(range(count))
    pixels = torch.cat([images for images, _ in batches])
    torch.testing.assert_close(pixels[:, 0, 1, 1], labels.float())


def test_the_order_follows_the_generator() -> None:
    def order(seed: int) -> list[int]:
        batches = numbered(50).train_batches(8, Augmentation(), torch.Generator().manual_seed(seed))
        return [int(label) for _, labels in batches for label in labels]

    assert order(1) == order(1) != order(2)


def test_plain_batches_keep_the_order() -> None:
    labels = [labels.tolist() for _, labels in numbered(5).batches(2)]
    assert labels == [[0, 1], [2, 3], [4]]


def test_batches_are_normalised(digits: Dataset) -> None:
    images, _ = next(digits.train.batches(len(digits.train)))
    assert float(images.mean()) == pytest.approx(0.0, abs=1e-4)
    assert float(images.std()) == pytest.approx(1.0, abs=1e-3)


def test_constant_channel_has_a_deviation() -> None:
    mean, std = statistics(torch.full((3, 1, 2, 2), 51, dtype=torch.uint8))
    assert mean == pytest.approx((0.2,))
    assert std == (1 / 255,)
