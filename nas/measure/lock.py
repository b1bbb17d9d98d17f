"""Who has a device: one measurement alone, or any number of trainings, over all processes of a user on this machine.

Locks of the operating system on two files (``flock``): it lets go of a dead process's. A measurement takes the *gate*
first, so that no training begins another step, then waits until those that train have paused; a training looks at the
gate between its steps. So a measurement never waits for longer than a step takes, however many train.
"""

from __future__ import annotations

import getpass
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from nas.errors import MeasureError

if sys.platform != "win32":
    import fcntl

POLL_S = 0.005

GiveWay = Callable[[], bool]
"""Called between steps; whether it had to wait for a measurement."""


def own_folder() -> Path:
    """The user's own folder, for locks and copies: in the temporary folder, which is local to the machine as the devices are.

    Raises MeasureError when another user owns it or can write to it.
    """
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    folder = Path(tempfile.gettempdir()) / f"nas-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if hasattr(os, "getuid") and (folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022):
        raise MeasureError("the folder for locks and copies is not this user's alone", where=str(folder),
                           hint="Remove it, or set TMPDIR to a folder of your own.")  # fmt: skip
    return folder


@contextmanager
def device_lock(device: str, timeout_s: float = 600.0, folder: Path | None = None,
                between: Callable[[], object] = bool) -> Iterator[None]:  # fmt: skip
    """Hold ``device`` (a name such as "cpu" or a GPU's UUID) for this process alone while the block runs.

    Waits up to ``timeout_s`` seconds for measurements and for trainings to pause, then raises MeasureError; ``between`` is
    called meanwhile, and what it raises ends the waiting. A process that dies lets go of its locks.
    """
    end, path = time.monotonic() + timeout_s, _path(device, folder)
    with ExitStack() as held:
        if not all(held.enter_context(_alone(file, end, between)) for file in (path, _training(path))):
            raise MeasureError(f"{device} stayed in use by another measurement or training for {timeout_s:g} s", where=str(path),
                               hint="Wait for the other run, or allow a longer wait.")  # fmt: skip
        yield


@contextmanager
def device_shared(device: str, idle: Callable[[], object] | None = None, folder: Path | None = None) -> Iterator[GiveWay]:
    """Train on ``device`` together with others; call what this yields between steps, to let measurements go first.

    A call costs microseconds while nobody measures. ``idle`` waits until this process's work on the device is done
    (``torch.cuda.synchronize``), and is called before way is given. A process must not take ``device_lock`` inside.
    """
    if sys.platform == "win32":  # it has no shared locks: measurements exclude each other, trainings do not pause
        yield lambda: False
        return
    path = _path(device, folder)
    gate, training = (os.open(file, os.O_RDWR | os.O_CREAT, 0o600) for file in (path, _training(path)))

    def enter() -> None:
        fcntl.flock(gate, fcntl.LOCK_SH)  # held by measurements from their asking to their end
        fcntl.flock(training, fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)

    def give_way() -> bool:
        if _try(gate, fcntl.LOCK_SH):
            fcntl.flock(gate, fcntl.LOCK_UN)
            return False
        if idle is not None:
            idle()
        fcntl.flock(training, fcntl.LOCK_UN)
        enter()
        return True

    try:
        enter()
        yield give_way
    finally:
        os.close(gate)
        os.close(training)


@contextmanager
def _alone(path: Path, end: float, between: Callable[[], object]) -> Iterator[bool]:
    """The file locked for this process alone; whether that came about before the ``end``."""
    if sys.platform == "win32":
        lock = FileLock(path)
        with suppress(Timeout):
            lock.acquire(timeout=max(0.0, end - time.monotonic()))
        try:
            yield lock.is_locked
        finally:
            lock.release()
        return
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while not (locked := _try(file, fcntl.LOCK_EX)) and time.monotonic() < end:
            between()
            time.sleep(POLL_S)
        yield locked
    finally:
        os.close(file)


def _try(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _path(device: str, folder: Path | None) -> Path:
    return (folder or own_folder()) / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', device)}.lock"


def _training(path: Path) -> Path:
    return path.with_suffix(".training")
