import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from nas.errors import RunError, UsageError
from nas.search.storage import LOCK_SUFFIX, open_storage, repair

MAXIMIZE = [optuna.study.StudyDirection.MAXIMIZE]


@pytest.fixture(autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


def attrs(path: Path) -> dict[str, object]:
    """What a study at that path knows, read by Optuna alone."""
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    return optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(backend)).user_attrs


def write(path: Path, **values: object) -> None:
    with open_storage(path) as storage:
        study_id = storage.optuna.get_study_id_from_name("s")
        for key, value in values.items():
            storage.optuna.set_study_user_attr(study_id, key, value)


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "run" / "journal.jsonl"
    with open_storage(path) as storage:
        storage.optuna.create_new_study(MAXIMIZE, "s")
    write(path, a=1, b=["x", 2])
    return path


def test_a_journal_cut_at_any_byte_of_its_last_record_loses_at_most_that_record(journal):
    whole = journal.read_bytes()
    last = whole[:-1].rindex(b"\n") + 1
    for cut in range(last, len(whole) + 1):
        journal.write_bytes(whole[:cut])
        write(journal, c=3)
        assert attrs(journal) == ({"a": 1, "b": ["x", 2], "c": 3} if cut == len(whole) else {"a": 1, "c": 3})


@pytest.mark.parametrize("tail", [
    b"\0" * 512, b"{}", b'{"op_code":2}', b'{"op_c{"op_code":2}\n', b"[1]\n", b"\xff\xfe",
])  # fmt: skip
def test_a_last_line_that_is_no_record_is_cut_off(journal, tail):
    whole = journal.read_bytes()
    journal.write_bytes(whole + tail)
    assert repair(journal) == len(tail)
    assert journal.read_bytes() == whole
    assert repair(journal) == 0


def test_a_damaged_line_in_the_middle_is_told_with_its_number_and_the_file_is_left_as_it_is(journal):
    lines = journal.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:1], b'{"op_code": 2, "ga', *lines[2:]])
    spoilt = damaged + lines[-1]
    journal.write_bytes(spoilt)
    with pytest.raises(RunError) as error:
        open_storage(journal)
    assert f"{journal}:2" in str(error.value)
    assert "head -n 1" in str(error.value)
    assert journal.read_bytes() == spoilt
    journal.write_bytes(b"".join(lines[:1]))  # what the message says to do
    write(journal, c=3)
    assert attrs(journal) == {"c": 3}


def test_records_that_make_no_sense_together_are_told_too(journal):
    journal.write_bytes(b'{"op_code": 4, "worker_id": "w"}\n' + journal.read_bytes())
    with pytest.raises(RunError, match="cannot be read"):
        open_storage(journal)
    repair(journal)


def test_a_second_driver_is_refused_and_the_first_goes_on(journal):
    code = ("import sys; from nas.search.storage import open_storage\n"
            "from nas.errors import RunError\n"
            "try: open_storage(sys.argv[1])\n"
            "except RunError as error: print(error)")  # fmt: skip
    with open_storage(journal) as storage:
        with pytest.raises(RunError, match="another process is driving"):
            open_storage(journal)
        other = subprocess.run([sys.executable, "-c", code, str(journal)], capture_output=True, text=True, check=True)
        assert "another process is driving" in other.stdout
        storage.optuna.set_study_user_attr(0, "c", 3)
    write(journal, d=4)
    assert attrs(journal) == {"a": 1, "b": ["x", 2], "c": 3, "d": 4}


def test_a_driver_that_was_killed_leaves_no_lock_that_holds(journal):
    code = ("import os, signal, sys; from nas.search.storage import open_storage\n"
            "open_storage(sys.argv[1]); os.kill(os.getpid(), signal.SIGKILL)")  # fmt: skip
    killed = subprocess.run([sys.executable, "-c", code, str(journal)], check=False)
    assert killed.returncode < 0
    assert Path(f"{journal}{LOCK_SUFFIX}").exists()
    write(journal, c=3)


def test_optunas_own_lock_left_by_a_killed_dashboard_does_not_hold_us_up(journal):
    Path(f"{journal}.lock").symlink_to(journal)
    write(journal, c=3)  # with Optuna's lock this takes 30 s
    assert attrs(journal)["c"] == 3


def test_reading_beside_the_driver_sees_what_is_whole(journal):
    with open_storage(journal) as driver:
        driver.optuna.set_study_user_attr(0, "c", 3)
        with journal.open("ab") as file:
            file.write(b'{"op_code":2,"wor')
        with open_storage(journal, reading=True) as reader:
            assert reader.optuna.get_study_user_attrs(0)["c"] == 3
    with pytest.raises(RunError, match="no journal"):
        open_storage(journal.parent / "nothing", reading=True)
    with pytest.raises(RunError, match="no such database"):
        open_storage(f"sqlite:///{journal.parent / 'gone.db'}", reading=True)
    assert not (journal.parent / "gone.db").exists()


def test_a_batch_reaches_the_file_at_its_end_in_one_append(journal, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr("nas.search.storage.SYNC_EVERY_S", 0.0)
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), fsync(fd)))
    with open_storage(journal) as storage:
        before = journal.read_bytes()
        with storage.batch():
            storage.optuna.set_study_user_attr(0, "c", 3)
            storage.optuna.set_study_user_attr(0, "d", 4)
            assert journal.read_bytes() == before
        assert len(synced) == 1
        assert storage.optuna.get_study_user_attrs(0)["d"] == 4
    assert all(json.loads(line) for line in journal.read_bytes().splitlines())


def test_sqlite_by_url_has_one_driver_too(tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    with open_storage(url) as storage:
        storage.optuna.create_new_study(MAXIMIZE, "s")
        with storage.batch():
            storage.optuna.set_study_user_attr(1, "c", 3)
        with pytest.raises(RunError, match="another process is driving"):
            open_storage(url)
    with open_storage(url, reading=True) as storage:
        assert storage.optuna.get_study_user_attrs(1) == {"c": 3}


@pytest.mark.parametrize("url", ["nosuch://host/db", "postgresql+nosuch://host/db"])
def test_a_url_that_cannot_be_used_is_told(url):
    with pytest.raises(UsageError, match="cannot be opened"):
        open_storage(url)


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be opened for writing"):
        open_storage(tmp_path / "file" / "journal")


def test_a_full_disk_is_told_and_the_journal_goes_on_later(journal, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_storage(journal) as storage, monkeypatch.context() as patch:
        patch.setattr("nas.search.storage.SYNC_EVERY_S", 0.0)
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="No space left"):
            storage.optuna.set_study_user_attr(0, "c", 3)
        patch.undo()
        storage.optuna.set_study_user_attr(0, "d", 4)  # not glued to half a line
    write(journal, e=5)
    assert attrs(journal) == {"a": 1, "b": ["x", 2], "d": 4, "e": 5}


def test_the_disk_is_waited_for_now_and_then_and_what_is_written_is_there_at_once(journal, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), fsync(fd)))
    monkeypatch.setattr("nas.search.storage.SYNC_EVERY_S", 3600.0)
    with open_storage(journal) as storage:
        for i in range(5):
            storage.optuna.set_study_user_attr(0, "c", i)
            assert attrs(journal)["c"] == i
    assert len(synced) == 1


def test_equal_distributions_of_trials_are_one_object(journal):
    known = optuna.distributions.CategoricalDistribution(("a", "b"))
    other = optuna.distributions.CategoricalDistribution(("a", "c"))
    with open_storage(journal) as storage:
        for distribution in (known, known, other):
            storage.optuna.create_new_trial(0, optuna.trial.create_trial(
                value=1.0, params={"network.x": "a"}, distributions={"network.x": distribution}))  # fmt: skip
    with open_storage(journal) as storage:
        first, second, third = storage.optuna.get_all_trials(0, deepcopy=False)
    assert first.distributions is second.distributions
    assert all(a is b for a, b in zip(first.params, second.params, strict=True))
    assert third.distributions == {"network.x": other}
    plain = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    assert plain.get_all_trials(0) == [first, second, third]


def test_the_driver_keeps_what_it_stored_and_reads_what_others_store_between(journal):
    value = [1.0, 2.0]
    with open_storage(journal) as storage:
        storage.optuna.set_study_user_attr(0, "mine", value)
        assert storage.optuna.get_study_user_attrs(0)["mine"] is value
        plain = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
        plain.set_study_user_attr(0, "note", "hello")
        storage.optuna.set_study_user_attr(0, "mine", 3)
        plain.set_study_user_attr(0, "note", "goodbye")
        with storage.batch():
            storage.optuna.set_study_user_attr(0, "mine", 4)
            storage.optuna.set_study_user_attr(0, "more", 5)
        seen = storage.optuna.get_study_user_attrs(0)
    assert seen == attrs(journal) == {"a": 1, "b": ["x", 2], "mine": 4, "note": "goodbye", "more": 5}
