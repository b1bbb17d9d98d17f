"""Files that every machine of a search needs, a user's plugins or the data set's arrays: copied to each machine once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import RunError
from nas.measure.lock import own_folder


@dataclass(frozen=True, slots=True)
class Piece:
    """A file to carry: the ``path`` that payloads name (the file, or the folder it is in), and its place below that."""

    path: str
    name: str
    source: Path


def pieces(paths: Sequence[Path | str]) -> list[Piece]:
    """The files at these paths, folders taken whole but flat. Raises RunError for what is not there."""
    found = []
    for given in map(Path, paths):
        files = sorted(file for file in given.iterdir() if file.is_file()) if given.is_dir() else [given]
        if not all(file.is_file() for file in files):
            raise RunError("no such file to carry to the workers", where=str(given))
        found += [Piece(str(given), file.name, file) for file in files]
    return found


def digest(carried: Sequence[Piece]) -> str:
    """A name for the files by their paths and contents."""
    total = hashlib.sha256()
    for piece in carried:
        total.update(f"{piece.path}\0{piece.name}\0{piece.source.stat().st_size}\n".encode())
        with piece.source.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:32]


Fetch = Callable[[], Any]
"""Gives a file's content, anything that can be written to a binary file."""


class Copies:
    """The copies on this machine, in a folder of this user's own. ``table``: paths of the driver's to those of the copies.

    Whoever comes first copies, the others wait for it. A folder is in use while a process holds its lock; those that
    nobody uses any more are removed when the next ones are made.
    """

    def __init__(self, name: str, carried: Sequence[tuple[str, str, Fetch]]) -> None:
        self.table: dict[str, str] = {}
        base = own_folder()
        self._home = base / name
        with _locked(base):
            _remove_unused(base, keep=name)
            whole = self._home / "whole"
            if not whole.exists():
                shutil.rmtree(self._home, ignore_errors=True)
                self._home.mkdir(mode=0o700)
            self._lock = os.open(self._home, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            numbers: dict[str, int] = {}
            for path, file, fetch in carried:
                folder = self._home / str(numbers.setdefault(path, len(numbers)))
                self.table[path] = str(folder / file if Path(path).name == file else folder)
                if not whole.exists():
                    folder.mkdir(exist_ok=True)
                    (folder / file).write_bytes(fetch())
            whole.touch()

    def close(self) -> None:
        """The copies are not used by this process any more."""
        os.close(self._lock)


def is_whole(name: str) -> bool:
    """Whether the copies of that name are on this machine."""
    return (own_folder() / name / "whole").exists()


class Scratch:
    """A folder for what jobs read and write here, removed at the end, or by whoever comes after a kill."""

    def __init__(self) -> None:
        base = own_folder()
        with _locked(base):
            _remove_unused(base)
            self.folder = Path(tempfile.mkdtemp(prefix="job-", dir=base))
            self._lock = os.open(self.folder, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    def close(self) -> None:
        """Removes it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _remove_unused(base: Path, keep: str = "") -> None:
    for other in base.iterdir():
        if other.is_dir() and other.name != keep:
            lock = os.open(other, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(other, ignore_errors=True)
            except BlockingIOError:
                pass
            finally:
                os.close(lock)
