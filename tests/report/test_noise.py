"""Errors of accuracies."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.report.run.noise import binomial_error, images_behind


def test_the_standard_error_of_an_accuracy() -> None:
    assert binomial_error(0.9, 100) == pytest.approx(0.03)
    assert binomial_error(1.0, 100) == 0.0
    assert binomial_error(None, 100) is None
    assert binomial_error(0.9, None) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(10, 20_000), st.integers(0, 999))
def test_accuracies_give_their_number_of_images_away(images: int, seed: int) -> None:
    hits = random.Random(seed).sample(range(images + 1), 8)
    divisor = math.gcd(images, *hits)
    assert images_behind([hit / images for hit in hits]) == images // divisor


def test_too_few_accuracies_or_none_of_a_split_say_nothing() -> None:
    assert images_behind([0.5, 0.25, 0.5, 0.75]) is None
    assert images_behind([math.pi / 4, math.e / 3, math.sqrt(2) / 2, 0.1, 0.2]) is None
