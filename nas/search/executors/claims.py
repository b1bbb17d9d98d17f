"""Who uses which cores and GPUs: the searches of a user on one machine take different ones, as far as there are.

A process that takes some says which in a file in the user's own folder and holds a lock on it (``flock``), which the system lets
go of however the process ends. So what a dead one had is free at once, and nothing has to run or be tidied up meanwhile.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from nas.measure.lock import own_folder
from nas.search.executors.base import Resources
from nas.search.executors.slots import Machine, Use, others

if sys.platform != "win32":
    import fcntl


class Claim:
    """A use that others see, until it is closed or its process has ended; none where the folder cannot be written."""

    def __init__(self, use: Use, folder: Path | None) -> None:
        self._file: int | None = None
        if folder is None:
            return
        with suppress(OSError):
            self._file, name = tempfile.mkstemp(prefix="search-", suffix=".claim", dir=folder)
            self._path = Path(name)
            try:
                os.write(self._file, json.dumps({"pid": use.pid, "cpus": sorted(use.cpus), "gpus": use.gpus}).encode())
                fcntl.flock(self._file, fcntl.LOCK_EX)
            except OSError:
                self.close()

    def close(self) -> None:
        """Others may have it."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None


def in_use() -> tuple[Use, ...]:
    """What the claims of this user's processes hold now, this process's own among them."""
    with _turn() as folder:
        return _uses(folder)


def take(machine: Machine, *, workers: int | None = None, threads: int | None = None, gpus_per_trial: float | None = None,
         ) -> tuple[tuple[Resources, ...], Claim, str]:  # fmt: skip
    """The slots of :meth:`.slots.Machine.divide` in sight of what others use, their claim, and a line on the cores that are
    shared with others, empty for none. Raises UsageError for what the machine does not have, or others do."""
    with _turn() as folder:
        used = _uses(folder)
        slots = machine.divide(used, workers=workers, threads=threads, gpus_per_trial=gpus_per_trial)
        use = machine.use(slots)
        return slots, Claim(use, folder), _shared(use, used)


def _shared(use: Use, used: Sequence[Use]) -> str:
    met = [other for other in used if other.cpus & use.cpus]
    cores = sorted(use.cpus & frozenset[int]().union(*(other.cpus for other in met)))
    if not cores:
        return ""
    named = ("cores " if len(cores) > 1 else "core ") + ",".join(map(str, cores)) + (" are" if len(cores) > 1 else " is")
    return f"{named} used by {others(met)}: expect both to be slower; workers= says how many cores each search takes"


@contextmanager
def _turn() -> Iterator[Path | None]:
    """The folder of claims, for one process at a time; None where there are none: elsewhere than on Linux, or on a full disk."""
    if sys.platform != "linux":
        yield None
        return
    try:
        folder = own_folder()
        lock = os.open(folder / "claims.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        yield None
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(lock)


def _uses(folder: Path | None) -> tuple[Use, ...]:
    """The claims of processes that live; those of dead ones are removed."""
    uses = []
    for path in sorted(folder.glob("*.claim")) if folder is not None else ():
        with suppress(FileNotFoundError), path.open("r+b") as file:  # closed meanwhile
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
            except BlockingIOError:
                words = json.loads(file.read())
                uses.append(Use(pid=words["pid"], cpus=frozenset(words["cpus"]), gpus=words["gpus"]))
    return tuple(uses)
