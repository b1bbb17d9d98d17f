"""The labelled images of an export: of the validation split alone, as the training saw them, few and small."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nas.errors import DataError
from nas.export import batch
from nas.export.batch import batch_of, stored_batch
from nas.train.data import load_data
from tests.search.runs import write_data


def test_they_are_validation_images_as_in_training(tmp_path: Path) -> None:
    data = load_data(str(write_data(tmp_path / "tiny.npz")), seed=3)
    images, labels = stored_batch(data.sealed())
    (seen, known), = data.validation.batches(len(data.validation))
    assert len(data.validation) <= batch.IMAGES
    assert torch.equal(images, seen)
    assert torch.equal(labels, known)
    assert images.dtype == torch.float32


@pytest.mark.parametrize(("images", "size", "stored"), [(5, 10**6, 5), (64, 3 * 4 * 64, 3), (64, 1, 1)])
def test_they_are_few_and_small(images: int, size: int, stored: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "IMAGES", images)
    monkeypatch.setattr(batch, "BYTES", size)
    data = load_data(str(write_data(tmp_path / "tiny.npz")))
    some, labels = stored_batch(data)
    (seen, known), = data.validation.batches(len(data.validation))
    assert len(some) == len(labels) == stored
    index = [len(known) * i // stored for i in range(stored)]
    assert torch.equal(some, seen[index]), "from all over the split"
    assert torch.equal(labels, known[index])


def test_a_runs_data_is_read_again(tmp_path: Path) -> None:
    source = str(write_data(tmp_path / "tiny.npz"))
    fingerprint = load_data(source, seed=1).fingerprint
    assert torch.equal(batch_of(source, seed=1, fingerprint=fingerprint).labels, stored_batch(load_data(source, seed=1)).labels)
    with pytest.raises(DataError, match="not what this run had"):
        batch_of(source, seed=2, fingerprint=fingerprint)
    with pytest.raises(DataError, match="no such"):
        batch_of("nowhere", seed=1, fingerprint=fingerprint)


def test_code_is_not_run_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DataError, match="made by code"):
        batch_of("mine:data", seed=0, fingerprint="")
