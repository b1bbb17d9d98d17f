"""One copy of a data set for many workers: the same images, mapped, without the test split."""

import json

import numpy as np
import pytest
import torch

from nas.errors import DataError
from nas.train.data import load_data
from nas.train.shared import open_shared, share
from tests.train.test_folder import fill


def test_it_is_the_same_data_set_but_for_the_test_split(digits, tmp_path):
    folder = share(digits, tmp_path / "shared")
    assert folder is not None
    assert all(path.is_file() for path in folder.iterdir()), "flat, to be carried"
    found = open_shared(folder)
    for part in ("train", "validation"):
        one, other = getattr(digits, part), getattr(found, part)
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert (one.mean, one.std, one.num_classes) == (other.mean, other.std, other.num_classes)
    assert (found.name, found.classes, found.fingerprint) == (digits.name, digits.classes, digits.fingerprint)
    assert found.augmentation == digits.augmentation
    with pytest.raises(DataError, match="sealed"):
        found.test()


def test_its_images_are_the_files_and_what_is_written_stays_here(digits, tmp_path):
    folder = share(digits, tmp_path / "shared")
    one, other = open_shared(folder), open_shared(folder)
    one.train.images[0] = 77
    assert not torch.equal(one.train.images[0], other.train.images[0])
    on_disk = np.load(folder / "train_images.npy", mmap_mode="r+")
    on_disk[-1] = 99
    assert (other.train.images[-1] == 99).all(), "mapped and not read"


def test_what_stands_there_is_used_again_and_another_data_set_replaces_it(digits, tmp_path):
    folder = share(digits, tmp_path / "shared")
    before = (folder / "train_images.npy").stat().st_mtime_ns
    share(digits, folder)
    assert (folder / "train_images.npy").stat().st_mtime_ns == before
    other = load_data("digits", seed=1, limit=200)
    share(other, folder)
    assert open_shared(folder).fingerprint == other.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["shared"]


def test_files_that_are_read_batch_by_batch_are_not_copied(tmp_path):
    streamed = load_data(str(fill(tmp_path / "images", 10)), image_size=8, memory_limit=1, workers=1)
    assert share(streamed, tmp_path / "shared") is None
    assert not (tmp_path / "shared").exists()


@pytest.mark.parametrize("damage", ["missing", "about", "truncated", "pickled", "word"])
def test_a_damaged_folder_is_told_and_made_again(digits, tmp_path, damage):
    folder = share(digits, tmp_path / "shared")
    match damage:
        case "missing":
            (folder / "train_labels.npy").unlink()
        case "about":
            (folder / "dataset.json").write_text("{")
        case "truncated":
            (folder / "train_images.npy").write_bytes((folder / "train_images.npy").read_bytes()[:1000])
        case "pickled":
            np.save(folder / "train_labels.npy", np.array([{}], dtype=object), allow_pickle=True)
        case "word":
            about = json.loads((folder / "dataset.json").read_text())
            (folder / "dataset.json").write_text(json.dumps({**about, "augmentation": {"rotate": 3}}))
    with pytest.raises(DataError, match="cannot be read"):
        open_shared(folder)
    assert open_shared(share(digits, folder)).fingerprint == digits.fingerprint


def test_a_full_or_forbidden_disk_is_told(digits, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        share(digits, tmp_path / "file" / "shared")
