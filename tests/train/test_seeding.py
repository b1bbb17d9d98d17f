from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from nas.train import derive_seed, seed_everything


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_equal_seeds_draw_equally_and_the_callers_state_returns() -> None:
    with seed_everything(5):
        inside = draw()
    with seed_everything(1):
        expected = draw()
    with seed_everything(1):
        with seed_everything(5):
            assert draw() == inside
        assert draw() == expected


def test_state_returns_after_an_error() -> None:
    with seed_everything(1):
        expected = draw()
    with seed_everything(1):
        with pytest.raises(KeyError), seed_everything(2**40):
            raise KeyError
        assert draw() == expected


def test_derived_seeds_differ_by_path() -> None:
    seeds = {derive_seed(s, *path) for s in (0, 1) for path in ((), ("a",), ("a", 1), ("b", 1), (1,))}
    assert len(seeds) == 10
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(3, "x") == derive_seed(3, "x")
