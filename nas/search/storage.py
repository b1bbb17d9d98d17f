"""Where a study lives: a journal file in the run's folder, or a database by URL. One driver at a time writes it.

A journal is one JSON line an operation. A driver killed in the middle of an append leaves a torn last line; the next
append would be glued to it and spoil the journal for good. So opening cuts the file back to its last whole line.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.storages.journal._storage import JournalStorageReplayResult

from nas.errors import RunError, UsageError

LOCK_SUFFIX = ".driver"
"""Not ``.lock``: that name beside a journal belongs to Optuna's own lock."""

SYNC_EVERY_S = 1.0
"""Seconds between two waits for the disk at least. What is written survives the death of any process; a power failure may
take what came after the last wait."""


TAIL = 1 << 16
"""Bytes of a journal's end that are looked at first for its last line."""


class Storage:
    """An open storage with the lock that keeps other drivers out; a context manager that gives both back.

    ``optuna`` is the storage itself. Within :meth:`batch` the operations on a journal are written together. The lock is held
    by this process and by children forked from it.
    """

    def __init__(self, storage: BaseStorage, lock: FileLock | None, journal: _Journal | None = None) -> None:
        self.optuna = storage
        self._lock = lock
        self._journal = journal

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Operations that neither return nor depend on one another are written at once when the block ends."""
        if self._journal is None:
            yield
        else:
            with self._journal.batch():
                yield

    def close(self) -> None:
        """Give the storage and the lock back; of a database that has failed that is told already."""
        try:
            with suppress(RunError):
                self.optuna.remove_session()
            engine = getattr(getattr(self.optuna, "_backend", self.optuna), "engine", None)
            if engine is not None:  # a database's connections, which Optuna leaves to the garbage collector
                engine.dispose()
        finally:
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> Storage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_storage(where: str | Path, *, reading: bool = False) -> Storage:
    """The storage at a path (a journal file, made if there is none) or at a URL (SQLite, PostgreSQL).

    ``reading``: of a journal, what is there now, beside its driver; nothing may be written to it.
    Raises RunError when another driver has it open, or when it is damaged; UsageError for a URL that cannot be used.
    A database that is not a file has no such lock; two drivers of one run are kept apart by :func:`hold` on its folder.
    """
    url = where if isinstance(where, str) and "://" in where else None
    if reading and url is not None and url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).is_file():
        raise RunError("there is no such database", where=url)  # SQLite would make an empty one
    if url is not None and (reading or not url.startswith("sqlite:///")):
        return Storage(_open_database(url, reading), None)
    path = Path(url.removeprefix("sqlite:///") if url is not None else where)
    if reading and not path.is_file():
        raise RunError("there is no journal of a search", where=str(path))
    lock = None if reading else hold(path)
    try:
        if url is not None:
            return Storage(_open_database(url, reading), lock)
        if not reading:
            repair(path)
        journal = _Journal(path)
        return Storage(_JournalStorage(journal), lock, journal)
    except BaseException as error:
        if lock is not None:
            lock.release()
        if isinstance(error, ValueError | KeyError | TypeError):
            raise RunError(f"the journal cannot be read: {error}", where=str(path)) from None
        raise


def _open_database(url: str, reading: bool) -> Any:
    from sqlalchemy import make_url  # 0.3 s, for those who use a database only
    from sqlalchemy.exc import SQLAlchemyError

    try:
        storage = optuna.storages.get_storage(url)
    except (ImportError, ValueError, RuntimeError, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        lacks_driver = isinstance(error, ImportError) and url.startswith("postgresql")
        raise UsageError(f"the database cannot be opened: {_said(error)}", got=url,
                         expected="sqlite:///study.db or postgresql://user@host/name",
                         hint="Its driver: pip install 'nas[postgresql]'." if lacks_driver else None) from None  # fmt: skip
    hint = None if reading else "When it works again, `nas resume` goes on where the search stopped."

    def tell(error: Exception) -> RunError:
        return RunError(f"the database fails: {_said(error)}", where=str(make_url(url)), hint=hint)  # without its password

    # What is damaged may still be text, of which no JSON can be made.
    return _Told(storage, (SQLAlchemyError, optuna.exceptions.OptunaError, json.JSONDecodeError), tell)


def _said(error: BaseException) -> str:
    """The first line of what a database's driver said, which Optuna and SQLAlchemy wrap in words of their own."""
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else None
    said = getattr(cause or error, "orig", None) or cause or error
    return next((line for line in str(said).splitlines() if line.strip()), type(said).__name__)


class _Told:
    """A storage whose ``errors``, whoever asks it, become what ``tell`` makes of them."""

    def __init__(self, storage: BaseStorage, errors: tuple[type[Exception], ...], tell: Callable[[Exception], RunError]) -> None:
        self._storage, self._errors, self._tell = storage, errors, tell

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._storage, name)
        return partial(self._call, found) if callable(found) else found

    def _call(self, method: Callable[..., Any], *words: Any, **options: Any) -> Any:
        try:
            return method(*words, **options)
        except self._errors as error:
            raise self._tell(error) from error


def hold(path: Path) -> FileLock:
    """The lock that the driver holds for its life, beside the file that it alone writes. It goes with the process, however
    that ends. Raises RunError when another driver has it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}{LOCK_SUFFIX}", timeout=0, thread_local=False)
        lock.acquire()
    except Timeout:
        hint = "Wait for it to end, or stop it; `nas show` and `nas best` can read it meanwhile."
        raise RunError("another process is driving this search", where=str(path), hint=hint) from None
    except OSError as error:
        raise RunError(f"cannot be opened for writing: {error.strerror}", where=str(path)) from None
    return lock


def repair(path: Path) -> int:
    """Cut a journal back to its last whole line, and return how many bytes went. The caller holds the lock.

    Only the end is looked at: no killed driver leaves a bad line before it, and who reads the journal looks at them all.
    """
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        size, block, lines = file.seek(0, os.SEEK_END), TAIL, list[bytes]()
        while len(lines) < 2 and block < 2 * size + TAIL:
            file.seek(max(0, size - block))
            lines, block = file.read().splitlines(keepends=True), 2 * block
        torn = len(lines[-1]) if lines and _record(lines[-1]) is None else 0
        if torn:
            file.truncate(size - torn)
            os.fsync(file.fileno())
    return torn


def _record(line: bytes) -> dict[str, Any] | None:
    """What a whole line of a journal says; None for anything else."""
    try:
        record = json.loads(line.decode()) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record if isinstance(record, dict) and "op_code" in record else None


_TEXT = json.JSONEncoder(separators=(",", ":"))

# A journal has no lock of its own around an append: the driver's lock is held already. Both locks of Optuna are files that a
# killed process leaves behind, and the next append then waits 30 s for them. A dashboard that writes a note meanwhile does no
# harm: a line is appended in a single write.


class _Journal(BaseJournalBackend):
    """A journal file whose appends can be held back and then written together; it remembers where its reading ended.

    What it has appended it gives back as it was given, not read and parsed again: that is quicker, and the trials in memory
    share their values with whoever stored them. So nothing that was stored may be changed afterwards.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0, 0  # records, bytes
        self._own: deque[tuple[dict[str, Any], int]] = deque()  # with its bytes, what was appended behind those since
        self._synced = -math.inf
        self._waiting: list[dict[str, Any]] | None = None
        if not path.exists():
            path.touch()

    @contextmanager
    def batch(self) -> Iterator[None]:
        if self._waiting is not None:
            raise RuntimeError("a batch is already open")
        self._waiting = []
        try:
            yield
        finally:
            waiting, self._waiting = self._waiting, None
            if waiting:
                self._append(waiting)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        if self._waiting is not None:
            return  # in the middle of a batch, of which nothing is written
        if self._read[0] > log_number_from:
            self._read = 0, 0
            self._own.clear()
        number, place = self._read
        while self._own:
            own, size = self._own.popleft()
            self._read = number, place = number + 1, place + size
            if number > log_number_from:
                yield own
        if self._path.stat().st_size == place:
            return  # asked before every look at a study
        with self._path.open("rb") as file:
            file.seek(place)
            for line in file:
                record = _record(line)
                if record is None and next(file, None) is None:
                    return  # being written, or torn
                if record is None:
                    hint = f"Restore a copy, or keep what came before it: head -n {number} {self._path.name} > repaired."
                    raise RunError("this line of the journal is damaged", where=f"{self._path}:{number + 1}",
                                   expected="a JSON object on a line of its own", hint=hint)  # fmt: skip
                number, place = number + 1, place + len(line)
                self._read = number, place
                if number > log_number_from:
                    yield record

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self._waiting is None:
            self._append(logs)
        else:
            self._waiting.extend(logs)

    def _append(self, logs: list[dict[str, Any]]) -> None:
        """All of them or none: a part would spoil what is appended after it."""
        lines = [f"{_TEXT.encode(log)}\n".encode() for log in logs]
        data = b"".join(lines)
        try:
            with self._path.open("ab", buffering=0) as file:
                size = file.tell()
                try:
                    _write(file, data)
                    if time.monotonic() - self._synced >= SYNC_EVERY_S:
                        os.fsync(file.fileno())
                        self._synced = time.monotonic()
                except OSError:
                    file.truncate(size)
                    raise
                # Behind what another program has appended meanwhile, it is read from the file like that.
                if file.tell() - len(data) == self._read[1] + sum(length for _, length in self._own):
                    self._own.extend(zip(logs, map(len, lines), strict=True))
        except OSError as error:
            hint = "Make room; then the same command goes on where the search stopped."
            raise RunError(f"the journal cannot be written: {error.strerror}", where=str(self._path), hint=hint) from error


def _write(file: io.FileIO, data: bytes) -> None:
    """All of the data: a single write may take a part of it."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) or 0 :]


class _JournalStorage(JournalStorage):
    """Optuna's storage, with trials that share what is equal in them."""

    def _sync_with_backend(self) -> None:
        if not isinstance(self._replay_result, _Replay):
            self._replay_result = _Replay(self._worker_id_prefix)
        super()._sync_with_backend()


class _Replay(JournalStorageReplayResult):
    """What a journal says. Optuna reads distributions anew for every trial: of 40 decisions 48 KB a trial, and most of the time
    that opening takes."""

    def __init__(self, worker_id_prefix: str) -> None:
        super().__init__(worker_id_prefix)
        self._known: dict[str, BaseDistribution] = {}
        self._sets: dict[tuple[str, ...], dict[str, BaseDistribution]] = {}

    def _apply_create_trial(self, log: dict[str, Any]) -> None:
        known = {sys.intern(name): self._distribution(text) for name, text in log.pop("distributions", {}).items()}
        same = self._sets.setdefault(tuple(known), known)
        params = {sys.intern(name): known[name].to_external_repr(value) for name, value in log.pop("params", {}).items()}
        before = len(self._trials)
        super()._apply_create_trial(log)
        if len(self._trials) > before:
            trial = self._trials[before]
            trial.params, trial.distributions = params, same if same == known else known

    def _apply_set_trial_user_attr(self, log: dict[str, Any]) -> None:
        """In place: Optuna copies the trial for every attribute."""
        if self._trial_exists_and_updatable(log["trial_id"], log):
            known = self._trials[log["trial_id"]].user_attrs
            known.update((sys.intern(name), value) for name, value in log["user_attr"].items())

    def _distribution(self, text: str) -> BaseDistribution:
        if text not in self._known:
            self._known[text] = json_to_distribution(text)
        return self._known[text]
