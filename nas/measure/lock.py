"""One measurement on a device at a time, over all processes of a user on this machine."""

from __future__ import annotations

import getpass
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from nas.errors import MeasureError


def lock_folder() -> Path:
    """The user's own folder for locks: in the temporary folder, which is local to the machine as the devices are.

    Raises MeasureError when somebody else owns it.
    """
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()
    folder = Path(tempfile.gettempdir()) / f"nas-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.lstat().st_uid != os.getuid():
        raise MeasureError("the folder for device locks belongs to another user", where=str(folder),
                           hint="Set TMPDIR to a folder of your own.")  # fmt: skip
    return folder


@contextmanager
def device_lock(device: str, timeout_s: float = 600.0, folder: Path | None = None) -> Iterator[None]:
    """Hold ``device`` (a name such as "cpu" or a GPU's UUID) for this process alone while the block runs.

    Waits up to ``timeout_s`` seconds, then raises MeasureError. A process that dies lets go of its locks.
    """
    path = (folder or lock_folder()) / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', device)}.lock"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout:
        raise MeasureError(f"{device} stayed in use by another measurement for {timeout_s:g} s", where=str(path),
                           hint="Wait for the other run, or allow a longer wait.") from None  # fmt: skip
    try:
        yield
    finally:
        lock.release()
