import os

import pytest

from nas.errors import MeasureError
from nas.measure import lock
from nas.measure.lock import device_lock, lock_folder


def test_a_device_is_held_by_one_and_free_again_afterwards(tmp_path):
    with device_lock("cpu", folder=tmp_path):
        with pytest.raises(MeasureError, match=r"cpu stayed in use by another measurement for 0\.05 s"), \
                device_lock("cpu", timeout_s=0.05, folder=tmp_path):  # fmt: skip
            pass
        with device_lock("cuda-GPU/1:2", timeout_s=0.05, folder=tmp_path):
            pass
    with device_lock("cpu", timeout_s=0.05, folder=tmp_path):
        pass


def test_an_error_inside_lets_go(tmp_path):
    with pytest.raises(ZeroDivisionError), device_lock("cpu", folder=tmp_path):
        raise ZeroDivisionError
    with device_lock("cpu", timeout_s=0.05, folder=tmp_path):
        pass


def test_the_folder_is_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setattr(lock.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = lock_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert lock_folder() == folder
    stranger = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: stranger)
    (tmp_path / f"nas-{stranger}").mkdir()
    with pytest.raises(MeasureError, match="belongs to another user"):
        lock_folder()
