"""What was spent is on disk whatever the driver does, and a record that is damaged says nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from nas.errors import RunError
from nas.search.budget import Budget, Meter
from nas.search.tally import Tally, read_tally
from tests.search.fakes import Clock


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_record_holds_what_the_meter_does_while_it_is_open_and_after(tmp_path):
    clock, path = Clock(), tmp_path / "spent.bin"
    meter = Meter(Budget(), clock)
    meter.begin(0, "gpu", 0.5)
    with Tally(path, meter):
        assert read_tally(path) == {"wall": 0.0, "cpu": 0.0, "gpu": 0.0}
        clock.now += 8
        wait_for(lambda: read_tally(path) == {"wall": 8.0, "cpu": 0.0, "gpu": 4.0})
        clock.now += 1
    assert read_tally(path) == {"wall": 9.0, "cpu": 0.0, "gpu": 4.5}
    clock.now += 1
    time.sleep(0.1)
    assert read_tally(path)["wall"] == 9.0


def test_a_record_is_never_less_than_what_was_spent_before(tmp_path):
    path, spent = tmp_path / "spent.bin", []
    for _ in range(3):
        meter = Meter(Budget(), clock := Clock())
        meter.remember({"cpu": 5.0}, read_tally(path))
        meter.begin(0, "cpu")
        clock.now += 2
        with Tally(path, meter):
            spent.append(read_tally(path)["cpu"])
    assert spent == [7.0, 9.0, 11.0]


def test_a_record_that_is_cut_or_changed_says_nothing(tmp_path):
    path = tmp_path / "spent.bin"
    assert read_tally(path) == {}
    with Tally(path, Meter(Budget())):
        pass
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert read_tally(path) == {}
        path.write_bytes(whole[:size] + bytes([whole[size] ^ 1]) + whole[size + 1 :])
        assert read_tally(path) == {}
    path.write_bytes(whole + b"x")
    assert read_tally(path) == {}


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(RunError, match="cannot be written"):
        Tally(tmp_path / "none" / "spent.bin", Meter(Budget()))


BUSY = """
import sys, time
from pathlib import Path
from nas.search.budget import Budget, Meter
from nas.search.tally import Tally
meter = Meter(Budget())
meter.begin(0, "cpu", 2.0)
with Tally(Path(sys.argv[1]), meter):
    print(flush=True)
    while True:  # no turn of a loop
        sum(range(1000))
"""


def test_a_driver_that_is_killed_while_it_is_busy_has_told_what_it_spent(tmp_path):
    path = tmp_path / "spent.bin"
    driver = subprocess.Popen([sys.executable, "-c", BUSY, str(path)], stdout=subprocess.PIPE)
    assert driver.stdout is not None
    driver.stdout.readline()
    begun = time.monotonic()
    time.sleep(1.0)
    os.kill(driver.pid, signal.SIGKILL)
    lasted = time.monotonic() - begun
    driver.communicate()
    assert read_tally(path)["cpu"] == pytest.approx(2 * lasted, abs=0.5)
