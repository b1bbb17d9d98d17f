"""Faults, really done to real searches: what was lost, what was counted twice, and how far the budget is from the truth.

    python -m benchmarks.faults [--faults tree_killed full_disk ...] [--moments 20] [--write]

Every fault is a search of its own in a folder of its own: two workers train tiny networks, something bad happens, and
``nas resume`` (where the driver died) brings the search to its end. ``lost``: completed trials that are missing or changed
afterwards; ``twice``: trials that the meter counts beyond those that there are, and networks that were completed twice;
``running``: trials left in flight for ever. ``error_s`` is what the meter holds of device seconds, minus the truth: for every
trial the time between the two moments that its journal has of it, and where the driver was killed, the time until the kill
and that of the second try; and what the driver itself held, for planning and for the test of the front, as it told its journal.
It is to be within 1 %. About 20 s a fault and moment.

A full disk needs a tmpfs to be mounted, so root. ``--write`` replaces results/benchmarks/faults.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from optuna.trial import TrialState

from benchmarks.conditions import Row, conditions, write_rows
from nas.search.executors.slots import cpu_quota, divide, usable_cpus
from nas.search.storage import open_storage
from tests.cli.driver import begin, environment, gone, nas, rows, wait_until, workers
from tests.search.runs import write_data, write_page

WORKERS = 2
SEARCH = ("search", "space=many.yaml", "data=tiny.npz", "objectives=accuracy,num_params", "run=r", "seed=5",
          f"workers={WORKERS}", "baseline=0", "repeats=0")  # fmt: skip
RUN = Path("results") / "r"
PATIENCE_S = 600.0
"""A search that has not ended after this long does not end by itself; on a quiet machine it takes ten seconds."""

BAD_PAGE = """
name: bad
source: a fault
input: [1, 8, 8]
num_classes: 10
network:
  - {op: conv_bn_act, kernel_size: 3, out_channels: {choice: [4, 6, 8]}}
  - {name: spoil, choice: {none: identity, bad: {op: bad}}}
  - global_avg_pool
  - classifier
"""
"""Six networks, half of them bad."""

BAD_OP = """
import ctypes, os, sys, time
import nas
from torch import Tensor, nn

@nas.op("bad")
class Bad(nn.Module):
    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.scale = nn.Conv2d(in_channels, in_channels, 1, groups=in_channels)

    def forward(self, x: Tensor) -> Tensor:
        if "nas.search.executors.worker" in sys.modules or sys.argv[0].endswith("worker.py"):
            {line}
        return self.scale(x)
"""
"""Bad in a worker only: the planner times a few networks in the driver."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What the journal says of a trial, read by Optuna."""

    number: int
    state: str
    identity: str
    attrs: Mapping[str, Any]
    begun: datetime
    ended: datetime | None

    @property
    def counts(self) -> bool:
        """Whether it is one of the budget's trials."""
        judged = self.state == "stopped" and "rungs" in self.attrs and not self.attrs.get("unfinished")
        return self.state in ("completed", "failed") or judged


@dataclass(slots=True)
class Story:
    """What was done to a search, and what its folder said before it went on."""

    base: Path
    what: str
    before: list[Trial] = field(default_factory=list)
    killed: datetime | None = None
    failures: str = ""
    timed: bool = True

    @property
    def run(self) -> Path:
        return self.base / RUN


def read(run: Path) -> tuple[list[Trial], dict[str, float]]:
    """The trials, and what the meter holds."""
    with open_storage(run / "study.log", reading=True) as storage:
        (study,) = storage.optuna.get_all_studies()
        trials = storage.optuna.get_all_trials(study._study_id)
        meter = study.user_attrs.get("meter", {})
    return [Trial(t.number, "running" if t.state == TrialState.RUNNING else t.user_attrs.get("state", ""),
                  t.user_attrs.get("identity", ""), t.user_attrs, t.datetime_start or datetime.min, t.datetime_complete)
            for t in trials], meter  # fmt: skip


def judge(story: Story, moment: float | None = None) -> Row:
    """The figures of a fault, from the folder of the search that has ended."""
    trials, meter = read(story.run)
    after = {trial.number: trial for trial in trials}
    finished = [trial for trial in story.before if trial.state != "running"]
    states = Counter(trial.state for trial in trials)
    completed = [trial.identity for trial in trials if trial.state == "completed"]
    table = sorted(int(row["trial"]) for row in rows(story.run))
    truth = sum(true_seconds(trial, story) for trial in trials) * cores_a_worker() + own_seconds(story.run)
    return {
        "fault": story.what, "moment_s": moment, "completed": states["completed"], "failed": states["failed"],
        "lost": sum(trial.number not in after or after[trial.number].attrs != trial.attrs for trial in finished),
        "twice": int(meter["trials"]) - sum(t.counts for t in trials) + len(completed) - len(set(completed)),
        "running": states["running"], "table_agrees": table == sorted(after), "device_s": round(truth, 2),
        "error_s": round(meter["cpu"] - truth, 2) if story.timed else None, "failures": story.failures,
    }  # fmt: skip


def well(row: Row) -> bool:
    """Whether a fault did no harm."""
    error, truth = row["error_s"] or 0.0, row["device_s"]
    assert isinstance(error, float)
    assert isinstance(truth, float)
    kept = not (row["lost"] or row["twice"] or row["running"]) and row["table_agrees"] is True
    return kept and abs(error) <= max(0.01 * truth, 0.2)  # so far apart are the moments of journal and meter on a busy machine


def true_seconds(trial: Trial, story: Story) -> float:
    """How long workers were held by a trial."""
    if trial.state == "duplicate":
        return 0.0
    seconds = float(trial.attrs.get("seconds", 0.0))
    if "rungs" in trial.attrs:
        return seconds  # it was not held while it waited for a promotion
    before = next((old for old in story.before if old.number == trial.number), None)
    if story.killed is not None and before is not None and before.state == "running":
        return (story.killed - trial.begun).total_seconds() + seconds
    assert trial.ended is not None
    return (trial.ended - trial.begun).total_seconds() if seconds else 0.0


def own_seconds(run: Path) -> float:
    """Device seconds that drivers held themselves: before the first trial, and for each test of the front, whose end is told
    with what was found when the front was looked at again."""
    told = [json.loads(line).get("user_attr", {}) for line in (run / "study.log").read_text().splitlines()]
    meters = [(this["meter"]["cpu"], "repeats" in after) for this, after in pairwise([*told, {}]) if "meter" in this]
    return meters[0][0] + sum(cpu - before for (before, _), (cpu, tested) in pairwise(meters) if tested)


def cores_a_worker() -> float:
    """Cores that a worker holds."""
    slots = divide(workers=WORKERS, threads=None, gpus_per_trial=0, gpus=(), cpus=usable_cpus(), quota=cpu_quota())
    return slots[0].fraction


def resumed(story: Story, *words: str) -> None:
    """Bring the search to its end."""
    done = nas("resume", "r", f"workers={WORKERS}", "--json", *words, cwd=story.base, timeout=PATIENCE_S)
    if done.returncode:
        raise RuntimeError(done.stderr)


def kill_at(story: Story, moment: float, whom: Callable[[subprocess.Popen[str]], list[psutil.Process]], *words: str) -> None:
    """Start a search, SIGKILL a process or many so many seconds after its first trial, and go on with it."""
    driver = begin(*SEARCH, *words, cwd=story.base)
    wait_until(lambda: (story.run / "trials.csv").exists() and bool(trials_of(story.run)), driver, PATIENCE_S)
    time.sleep(moment)
    tree = [psutil.Process(driver.pid), *workers(driver)]
    for process in whom(driver):
        process.kill()
    story.killed = datetime.now()
    driver.communicate(timeout=PATIENCE_S)
    if not gone(tree):
        raise RuntimeError("workers outlived their driver")
    story.before = read(story.run)[0]


def trials_of(run: Path) -> list[Trial]:
    """The trials, if there is a study yet."""
    try:
        return read(run)[0]
    except Exception:
        return []


# -- the faults ------------------------------------------------------------------------------------------------------


def driver_killed(story: Story, moment: float) -> None:
    """kill -9 of the driver."""
    kill_at(story, moment, lambda driver: [psutil.Process(driver.pid)], "budget=12trials", "epochs=40")
    resumed(story)


def tree_killed(story: Story, moment: float) -> None:
    """kill -9 of the driver and all workers at once."""
    kill_at(story, moment, lambda driver: [*workers(driver), psutil.Process(driver.pid)], "budget=12trials", "epochs=40")
    resumed(story)


def worker_killed(story: Story, moment: float) -> None:
    """kill -9 of a worker: its trial is tried once more."""
    driver = begin(*SEARCH, "budget=12trials", "epochs=40", cwd=story.base)
    wait_until(lambda: bool(trials_of(story.run)), driver, PATIENCE_S)
    time.sleep(moment)
    story.before = read(story.run)[0]
    workers(driver)[0].kill()
    _, errors = driver.communicate(timeout=PATIENCE_S)
    if driver.returncode:
        raise RuntimeError(errors)


def terminated(story: Story, moment: float) -> None:
    """SIGTERM: the search ends and says so, and goes on when asked."""
    driver = begin(*SEARCH, "budget=12trials", "epochs=40", cwd=story.base)
    wait_until(lambda: bool(trials_of(story.run)), driver, PATIENCE_S)
    time.sleep(moment)
    story.before, story.killed = read(story.run)[0], datetime.now()
    driver.terminate()
    out, errors = driver.communicate(timeout=PATIENCE_S)
    if driver.returncode != 130 or "Traceback" in out + errors:
        raise RuntimeError(out + errors)
    resumed(story)


def full_disk(story: Story, moment: float) -> None:
    """The disk fills up while the search runs; later there is room again."""
    driver = begin(*SEARCH, "budget=12trials", "epochs=40", cwd=story.base)
    wait_until(lambda: bool(trials_of(story.run)), driver, PATIENCE_S)
    time.sleep(moment)
    ballast = story.base / "ballast"
    fill(ballast)
    while driver.poll() is None:  # workers may die of it and be replaced before the driver has to write
        if workers(driver):
            story.killed = datetime.now()
        time.sleep(0.02)
    _, errors = driver.communicate(timeout=PATIENCE_S)
    if driver.returncode != 2 or "Make room" not in errors or "Traceback" in errors:
        raise RuntimeError(errors)
    ballast.unlink()
    story.before = read(story.run)[0]
    resumed(story)


def fill(path: Path) -> None:
    """Take all the room there is."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue


def checkpoint_cut(story: Story, moment: float) -> None:
    """With early stopping: the checkpoints of all that wait are cut short while no driver runs. The journal does not say when a
    promoted trial went on, so the meter is not judged."""
    story.timed = False
    driver = begin(*SEARCH, "budget=14trials", "epochs=9", "early_stopping=asha", cwd=story.base)
    folder = story.run / "checkpoints"
    wait_until(lambda: len(list(folder.glob("*.pt"))) >= 3, driver, PATIENCE_S)
    time.sleep(moment / 4)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    cut = list(folder.glob("*.pt"))
    for path in cut:
        path.write_bytes(path.read_bytes()[:1000])
    story.before = read(story.run)[0]
    resumed(story)
    story.failures = f"{len(cut)} cut"


def study_spoilt(story: Story, moment: float) -> None:
    """A line in the middle of the study file is damaged: told with its number; trials.csv can be read; what it says helps. What
    the lines after it said of the meter is gone with them, so the meter is not judged."""
    story.timed = False
    done = nas(*SEARCH, "budget=6trials", "epochs=2", cwd=story.base, timeout=PATIENCE_S)
    study = story.run / "study.log"
    lines = study.read_bytes().splitlines(keepends=True)
    number = len(lines) * 3 // 4
    study.write_bytes(b"".join([*lines[:number], lines[number][:40] + b"\n", *lines[number + 1 :]]))
    refused = nas("resume", "r", "budget=+2trials", cwd=story.base)
    if done.returncode or refused.returncode != 2 or f"study.log:{number + 1}" not in refused.stderr or len(rows(story.run)) != 6:
        raise RuntimeError(refused.stderr)
    study.write_bytes(b"".join(lines[:number]))
    story.before = [trial for trial in read(story.run)[0] if trial.state != "running"]
    story.failures = "refused, then the lines before it were kept"
    resumed(story)


def bad_candidate(line: str, kind: str, prelude: str = "") -> Callable[[Story, float], None]:
    """A search in which half of the networks do that when a worker runs them."""

    def do(story: Story, moment: float) -> None:
        write_page(story.base / "bad.yaml", BAD_PAGE)
        (story.base / "bad_op.py").write_text(BAD_OP.replace("{line}", line))
        words = [word.replace("many.yaml", "bad.yaml") for word in SEARCH]
        program = f"import sys\n{prelude}\nfrom nas.cli import main\nsys.exit(main())"
        done = subprocess.run([sys.executable, "-c", program, *words, "budget=6trials", "epochs=2", "plugins=bad_op.py"],
                              cwd=story.base, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S)  # fmt: skip
        reasons = [row["reason"] for row in rows(story.run) if row["state"] == "failed"]
        if done.returncode or len(reasons) != 3 or not all(reason.startswith(kind) for reason in reasons):
            raise RuntimeError(f"{reasons} {done.stderr}")
        story.failures = reasons[0][:70]

    return do


FAULTS: Mapping[str, Callable[[Story, float], None]] = {
    "worker_killed": worker_killed, "driver_killed": driver_killed, "tree_killed": tree_killed, "terminated": terminated,
    "full_disk": full_disk, "checkpoint_cut": checkpoint_cut, "study_spoilt": study_spoilt,
    "out_of_memory": bad_candidate("x.new_empty(2**50)", "out_of_memory"),
    "segfault": bad_candidate("ctypes.string_at(0)", "died"),
    "hang": bad_candidate("time.sleep(3600)", "hang", "import nas.search.loop as loop; loop.HANG_S, loop.HANG_EPOCHS = 15.0, 0"),
}  # fmt: skip
AT_RANDOM = ("tree_killed",)
"""Faults that are done at many moments."""


@contextmanager
def somewhere(name: str) -> Iterator[Path]:
    """A folder; for a full disk one with a small disk of its own. Raises PermissionError where that cannot be mounted."""
    with tempfile.TemporaryDirectory() as folder:
        if name != "full_disk":
            yield Path(folder)
            return
        mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=56m", "tmpfs", folder], capture_output=True, text=True)
        if mount.returncode:
            raise PermissionError(f"a small disk cannot be mounted here: {mount.stderr.strip()}")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def suffer(name: str, moment: float) -> Row:
    """One fault, at that many seconds after the first trial. Raises RuntimeError where it does not end as it should."""
    with somewhere(name) as base:
        write_data(base / "tiny.npz", images=900)
        write_page(base / "many.yaml")
        story, others = Story(base, name), psutil.Process().children()
        try:
            FAULTS[name](story, moment)
        finally:  # a search that did not end as it should
            for child in set(psutil.Process().children()) - set(others):
                child.kill()
        return judge(story, round(moment, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", nargs="+", default=list(FAULTS), choices=list(FAULTS))
    parser.add_argument("--moments", type=int, default=20, help="random moments at which the whole tree is killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write results/benchmarks/faults.csv")
    given = parser.parse_args()
    rng, table = random.Random(given.seed), list[Row]()
    for name in given.faults:
        for _ in range(given.moments if name in AT_RANDOM else 1):
            try:
                row = suffer(name, rng.uniform(0.0, 3.0))
                row["well"] = well(row)
            except PermissionError as error:
                row = {"fault": name, "failures": f"not done: {error}"}
            except (RuntimeError, AssertionError, subprocess.TimeoutExpired) as error:
                row = {"fault": name, "failures": f"did not end as it should: {error}", "well": False}
            print(json.dumps(row), flush=True)
            table.append(row | conditions())
            if given.write:  # as far as it has come
                write_rows("faults.csv", table)


if __name__ == "__main__":
    main()
