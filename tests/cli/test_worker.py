"""`nas worker`: a process that joins a running search by the command that the search prints, and is killed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas.search.final import FILES
from tests.cli.driver import NAS, begin, environment, gone, nas, rows, wait_until, workers
from tests.cli.test_faults import check_after_resume, stored
from tests.search.runs import write_data

SEARCH = ("search", "space=many.yaml", "data=tiny.npz", "objectives=accuracy,num_params", "run=r", "seed=5", "workers=1",
          "baseline=0", "repeats=0", "budget=10trials", "epochs=20", "endpoint=127.0.0.1:0")  # fmt: skip


def told(driver: subprocess.Popen[str]) -> list[str]:
    """The words of the command that the search says others join with."""
    assert driver.stdout is not None
    for line in driver.stdout:
        if found := re.search(r"nas (worker connect=\S+ token=\S+)", line):
            return found[1].split()
    raise AssertionError(driver.communicate())


@pytest.mark.slow  # two processes import torch, and a search of ten trainings
def test_a_worker_joins_works_is_killed_and_the_search_ends_by_itself(here):
    write_data(here / "tiny.npz", images=900)
    run = here / "results" / "r"
    driver = begin(*SEARCH, cwd=here)
    guest = subprocess.Popen([*NAS, *told(driver), "workers=1"], cwd=here, env=environment(), stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)  # fmt: skip
    try:

        def at_work() -> bool:
            """One is done by the guest, and it has the next: both slots are taken."""
            trials, _ = stored(run)
            theirs = [t for t in trials if t.state == "completed" and "@" in t.attrs["device"]]
            return bool(theirs) and sum(t.state == "running" for t in trials) == 2

        wait_until(lambda: rows(run) and at_work(), driver, timeout=600)
        before = [t for t in stored(run)[0] if t.state != "running"]
        children = workers(guest)
    except BaseException:
        driver.kill()
        raise
    finally:
        guest.send_signal(signal.SIGKILL)
        guest.wait()
    assert gone(children), "the guest's worker outlived it"
    out, errors = driver.communicate(timeout=600)
    assert (driver.returncode, errors) == (0, ""), out
    check_after_resume(run, before, 10)
    (line,) = [line for line in (run / "log.txt").read_text().splitlines() if "it is tried once more" in line]
    assert "it has left" in line
    lost = int(re.search(r"trial (\d+):", line)[1])
    (again,) = [t for t in stored(run)[0] if t.number == lost]
    assert (again.state, again.attrs["device"]) == ("completed", "cpu"), "elsewhere"


@pytest.mark.slow  # two processes import torch, measure and train
def test_a_guest_with_another_processor_trains_and_what_is_measured_is_the_drivers(here, monkeypatch):
    write_data(here / "tiny.npz", images=900)
    monkeypatch.setenv("NAS_PROCESSOR", "board A")
    driver = begin(*(word for word in SEARCH if "=accuracy" not in word), "objectives=accuracy,latency", cwd=here)
    try:
        command = told(driver)
    except AssertionError as error:
        if "the measurement was refused" in str(error):
            pytest.skip("the machine is too busy to measure on")
        raise
    guest = subprocess.Popen([*NAS, *command, "workers=1"], cwd=here, env={**environment(), "NAS_PROCESSOR": "board B"},
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    out, errors = driver.communicate(timeout=600)
    guest.wait(timeout=20)
    assert (driver.returncode, errors) == (0, ""), out
    trials = [t for t in stored(here / "results" / "r")[0] if "latency" in t.attrs]
    if not trials:
        pytest.skip("the machine was too busy to measure on")
    assert {t.attrs["latency"]["device_name"] for t in trials} == {"board A"}
    assert [t for t in trials if "@" in t.attrs["device"]], "the guest trained what the driver's worker measured"


QUICK = "from nas.search.executors import host; host.BACK_EVERY_S = 0.0; "


def history(checkpoint: Path) -> list[dict[str, Any]]:
    """The epochs that a checkpoint has, as it may be replaced meanwhile; none where there is no file."""
    try:
        return torch.load(checkpoint, weights_only=True)["history"]
    except FileNotFoundError:
        return []


@pytest.mark.slow  # two processes import torch, and two networks are trained to the end
@pytest.mark.parametrize("end", ["guest_killed", "driver_killed", "driver_interrupted"])
def test_a_final_training_goes_on_from_what_had_come_back(here, end):
    """One of two is the guest's. Its curve at the end has the epochs, seconds and all, that had come back."""
    rng = np.random.default_rng(0)  # images that are hard to tell apart: the front has several networks
    labels = np.arange(40_000) % 3
    images = rng.integers(0, 200, (40_000, 8, 8), dtype=np.uint8) + (5 * labels[:, None, None]).astype(np.uint8)
    np.savez(here / "tiny.npz", x_train=images[:30_000], y_train=labels[:30_000], x_test=images[30_000:], y_test=labels[30_000:])
    run, search = here / "results" / "r", [word for word in SEARCH if not word.startswith(("budget=", "epochs="))]
    driver = begin(*search, "budget=8trials,1h", "epochs=1", "final=2,50%", "recipe=quick", cwd=here)
    guest = subprocess.Popen([*NAS[:2], QUICK + NAS[2], *told(driver), "workers=1"], cwd=here, env=environment(),
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:

        def back() -> list[Path]:
            """The final training that runs elsewhere: the driver's own worker holds a lock where it trains."""
            return [path for path in run.glob("final/*/checkpoint.pt") if not (path.parent / ".lock").exists()]

        wait_until(lambda: back() and len(history(back()[0])) >= 3, driver, timeout=300)
        (checkpoint,) = back()
        if end == "guest_killed":
            guest.kill()
        elif end == "driver_killed":
            driver.kill()
        else:
            driver.send_signal(signal.SIGINT)
        if end != "guest_killed":
            driver.communicate(timeout=60)
    finally:
        guest.kill() if end == "guest_killed" or driver.poll() is None else guest.wait(timeout=60)
        guest.wait()
    known = history(checkpoint)
    out, errors = driver.communicate(timeout=600) if end == "guest_killed" else ("", "")
    if end != "guest_killed":
        done = nas("resume", "r", cwd=here, timeout=600)
        out, errors = done.stdout, done.stderr
    assert "final" in out, errors
    metrics = json.loads((checkpoint.parent / "metrics.json").read_text())
    assert len(known) >= 3
    assert metrics["curve"][: len(known)] == known
    assert metrics["epochs"] == len(metrics["curve"]) > len(known)
    assert metrics["weights"] == "fully trained"
    assert {path.name for path in checkpoint.parent.iterdir()} - {".lock"} == {*FILES} - {"checkpoint.pt"}


def test_a_search_that_is_not_there_is_told(here):
    done = nas("worker", "connect=127.0.0.1:9", "token=sixteen-letters-or-more", cwd=here)
    assert done.returncode == 2
    assert "no search answers" in done.stderr
    assert "Traceback" not in done.stderr
