from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nas.errors import DataError
from nas.train.balance import class_counts, draw, hold_out, quotas, subsample

counts_of_classes = st.lists(st.integers(2, 40), min_size=2, max_size=6)


def labels_of(counts: list[int], seed: int) -> Tensor:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


@settings(deadline=None, max_examples=60)
@given(counts=counts_of_classes, fraction=st.floats(0.02, 0.98), seed=st.integers(0, 2**40))
def test_held_out_split_is_balanced_disjoint_and_complete(counts: list[int], fraction: float, seed: int) -> None:
    labels = labels_of(counts, seed)
    names = [str(i) for i in range(len(counts))]
    kept, held = hold_out(labels, torch.tensor(counts), fraction, names, seed=seed, where="here")
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(labels)))
    share = round(fraction * len(labels)) / len(labels)
    for label, count in enumerate(counts):
        taken = int((labels[held] == label).sum())
        assert 1 <= taken <= count - 1
        assert abs(taken - share * count) <= 1


@settings(deadline=None, max_examples=60)
@given(counts=counts_of_classes, limit=st.integers(2, 300), seed=st.integers(0, 99))
def test_subsample_keeps_the_shares_of_the_classes(counts: list[int], limit: int, seed: int) -> None:
    labels = labels_of(counts, seed)
    if limit < len(counts):
        return
    index = subsample(labels, torch.tensor(counts), limit, seed=seed, where="here")
    total = min(limit, len(labels))
    assert abs(len(index) - total) <= len(counts)
    assert index.tolist() == sorted(set(index.tolist()))
    for label, count in enumerate(counts):
        taken = int((labels[index] == label).sum())
        assert taken >= 1
        assert abs(taken - total / len(labels) * count) <= 1


def test_quotas_sum_to_the_total_when_every_class_can_give() -> None:
    assert quotas(torch.tensor([10, 20, 31]), 12).tolist() == [2, 4, 6]
    assert int(quotas(torch.tensor([33, 33, 34]), 10).sum()) == 10


def test_draw_depends_on_the_seed_alone() -> None:
    labels = labels_of([30, 30], 0)
    quota = torch.tensor([5, 7])
    assert torch.equal(draw(labels, quota, seed=1)[0], draw(labels, quota, seed=1)[0])
    assert not torch.equal(draw(labels, quota, seed=1)[0], draw(labels, quota, seed=2)[0])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_impossible_fraction(fraction: float) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        hold_out(labels_of([3, 3], 0), torch.tensor([3, 3]), fraction, "ab", seed=0, where="here")


def test_class_with_one_image_is_named() -> None:
    with pytest.raises(DataError, match="class 'b' has only one image"):
        hold_out(torch.tensor([0, 0, 1]), torch.tensor([2, 1]), 0.5, "ab", seed=0, where="here")


def test_limit_below_the_number_of_classes() -> None:
    with pytest.raises(DataError, match="at least one image a class"):
        subsample(torch.tensor([0, 1, 2]), torch.tensor([1, 1, 1]), 2, seed=0, where="here")


def test_empty_and_single_classes_are_named() -> None:
    with pytest.raises(DataError, match="class 'b' has no training images"):
        class_counts(torch.tensor([0, 2]), "abc", where="here")
    with pytest.raises(DataError, match="only one class"):
        class_counts(torch.tensor([0, 0]), "a", where="here")
