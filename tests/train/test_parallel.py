from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nas.errors import TrainError
from nas.train import Augmentation, Dataset, Recipe, fit
from nas.train.parallel import ALONE, Group, join_group, local_device


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_group("cpu") as group:
        assert group is ALONE
    assert group.first
    assert group.any(True, torch.device("cpu"))
    model = torch.nn.Linear(2, 2)
    assert group.wrap(model, unused=False) is model


@pytest.mark.parametrize("size", [2, 3])
def test_parts_of_every_batch_make_the_batch(few_digits: Dataset, size: int) -> None:
    plain = Augmentation()
    whole = list(few_digits.train.train_batches(32, plain, torch.Generator().manual_seed(1)))
    parts = [list(few_digits.train.train_batches(32, plain, torch.Generator().manual_seed(1), Group(rank, size)))
             for rank in range(size)]  # fmt: skip
    for step, (images, labels) in enumerate(whole):
        assert torch.equal(torch.cat([part[step][0] for part in parts]), images)
        assert torch.equal(torch.cat([part[step][1] for part in parts]), labels)
    judged = [few_digits.validation.part(Group(rank, size)) for rank in range(size)]
    assert torch.equal(torch.cat([part.labels for part in judged]), few_digits.validation.labels)


def test_processes_augment_by_numbers_of_their_own(few_digits: Dataset) -> None:
    same = replace(few_digits.train, images=torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(100, 1, 8, 8))
    how = Augmentation(crop_padding=2)
    first, second = (next(same.train_batches(32, how, torch.Generator().manual_seed(1), Group(rank, 2)))[0] for rank in range(2))
    assert not torch.equal(first[:10], second[:10])


def test_a_batch_too_small_for_the_processes_is_refused(few_digits: Dataset) -> None:
    with pytest.raises(TrainError, match="batch_size=6"):
        fit(torch.nn.Linear(1, 1), few_digits, Recipe(batch_size=4), group=Group(0, 3))


@pytest.mark.parametrize(("word", "expected"), [("cuda", "cuda:3"), ("cpu", "cpu"), ("cuda:1", "cuda:1")])
def test_each_process_has_its_gpu(monkeypatch: pytest.MonkeyPatch, word: str, expected: str) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device(word) == expected
    monkeypatch.delenv("LOCAL_RANK")
    assert local_device(word) == word


def test_a_group_that_cannot_be_formed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TrainError, match="torchrun"), join_group("cpu"):
        pass
