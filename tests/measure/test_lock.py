"""Real processes hold and wait for the locks; nothing about how long it took is asserted."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nas.errors import MeasureError
from nas.measure import lock
from nas.measure.lock import device_lock, device_shared, own_folder

ROOT = Path(__file__).parents[2]


def test_a_device_is_held_by_one_and_free_again_afterwards(tmp_path):
    with device_lock("cpu", folder=tmp_path):
        with pytest.raises(MeasureError, match=r"cpu stayed in use by another measurement or training for 0\.05 s"), \
                device_lock("cpu", timeout_s=0.05, folder=tmp_path):  # fmt: skip
            pass
        with device_lock("cuda-GPU/1:2", timeout_s=0.05, folder=tmp_path):
            pass
    with device_lock("cpu", timeout_s=0.05, folder=tmp_path):
        pass


def test_an_error_inside_lets_go(tmp_path):
    with pytest.raises(ZeroDivisionError), device_lock("cpu", folder=tmp_path):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), device_shared("cpu", folder=tmp_path):
        raise ZeroDivisionError
    with device_lock("cpu", timeout_s=0.05, folder=tmp_path):
        pass


def test_trainings_share_and_a_measurement_waits_for_all_of_them(tmp_path):
    with device_shared("cpu", folder=tmp_path) as first, device_shared("cpu", folder=tmp_path) as second:
        assert not first()
        assert not second()
        with pytest.raises(MeasureError, match="stayed in use"), device_lock("cpu", timeout_s=0.05, folder=tmp_path):
            pass
    with device_lock("cpu", timeout_s=0.05, folder=tmp_path):
        pass


TRAIN = """
import sys, time
from pathlib import Path
from nas.measure.lock import device_shared
folder, log = Path(sys.argv[1]), Path(sys.argv[2])
waited, idle = 0, []
with device_shared("cpu", idle=lambda: idle.append(1), folder=folder) as give_way, log.open("w") as out:
    while not (folder / "stop").exists():
        out.write("step\\n")
        out.flush()
        time.sleep(0.002)
        waited += give_way()
assert waited == len(idle)
sys.exit(10 + waited)
"""


def python(code: str, *words: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], env=os.environ | {"PYTHONPATH": str(ROOT)})


def until(condition):
    while not condition():
        time.sleep(0.002)


def test_trainings_of_other_processes_pause_while_one_measures(tmp_path):
    """Three train without end and without a pause of their own; the measurement gets in twice, and they stand still."""
    logs = [tmp_path / f"log{index}" for index in range(3)]
    trainings = [python(TRAIN, tmp_path, log) for log in logs]
    until(lambda: all(log.exists() and log.stat().st_size for log in logs))
    for _ in range(2):
        with device_lock("cpu", timeout_s=60, folder=tmp_path):
            sizes = [log.stat().st_size for log in logs]
            subprocess.run([sys.executable, "-c", ""], check=True)  # time enough for hundreds of steps
            assert [log.stat().st_size for log in logs] == sizes
        until(lambda sizes=sizes: all(log.stat().st_size > size for log, size in zip(logs, sizes, strict=True)))
    (tmp_path / "stop").touch()
    assert [training.wait(30) for training in trainings] == [12, 12, 12]


@pytest.mark.parametrize("holder", ["device_lock('cpu', folder=folder)", "device_shared('cpu', folder=folder)"])
def test_a_dead_process_lets_go(tmp_path, holder):
    code = (f"import sys, time\nfrom pathlib import Path\nfrom nas.measure.lock import device_lock, device_shared\n"
            f"folder = Path(sys.argv[1])\nwith {holder}:\n    (folder / 'held').touch()\n    time.sleep(600)")  # fmt: skip
    process = python(code, tmp_path)
    until((tmp_path / "held").exists)
    with pytest.raises(MeasureError, match="stayed in use"), device_lock("cpu", timeout_s=0.02, folder=tmp_path):
        pass
    process.kill()
    process.wait()
    with device_lock("cpu", timeout_s=10, folder=tmp_path):
        pass


def test_the_folder_is_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setattr(lock.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = own_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert own_folder() == folder
    folder.chmod(0o777)
    with pytest.raises(MeasureError, match="not this user's alone"):
        own_folder()
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(MeasureError, match="not this user's alone"):
        own_folder()
    stranger = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: stranger)
    (tmp_path / f"nas-{stranger}").mkdir()
    with pytest.raises(MeasureError, match="not this user's alone"):
        own_folder()


def test_who_waits_may_think_better_of_it(tmp_path):
    """Holding the device, a wait of an hour ends at the third look."""
    looks = []

    def between():
        looks.append(1)
        if len(looks) == 3:
            raise KeyError

    with device_lock("cpu", folder=tmp_path), pytest.raises(KeyError), \
            device_lock("cpu", timeout_s=3600, folder=tmp_path, between=between):  # fmt: skip
        pass
    assert len(looks) == 3
    with device_lock("cpu", timeout_s=0.05, folder=tmp_path):
        pass
