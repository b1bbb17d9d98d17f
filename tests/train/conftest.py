"""Small data and a small network for the training tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from nas.train import Dataset, load_data, seed_everything


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_data("digits")


@pytest.fixture(scope="session")
def few_digits() -> Dataset:
    """100 images to train on."""
    return load_data("digits", limit=100)


@pytest.fixture
def make_net() -> Callable[..., nn.Module]:
    def make(seed: int = 0, *, dropout: float = 0.0, num_classes: int = 10) -> nn.Module:
        with seed_everything(seed):
            return nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
                nn.Dropout(dropout), nn.Flatten(), nn.Linear(512, num_classes),
            )  # fmt: skip

    return make
