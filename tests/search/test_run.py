"""A run's folder: found by name or path, written whole or not at all."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

import nas.search.run as runs
from nas.errors import RunError
from nas.search.run import RunFolder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def made(path: str) -> RunFolder:
    folder = RunFolder(Path(path))
    folder.create()
    folder.write_config({"space": "x"})
    return folder


def test_a_run_is_found_by_name_and_by_path(tmp_path):
    made("results/a")
    made("else where/b")
    for word in ("a", "results/a", str(tmp_path / "results/a"), "results/a/"):
        assert RunFolder.find(word).path.resolve() == tmp_path / "results/a"
    assert RunFolder.find("else where/b").exists
    with pytest.raises(RunError, match=r"no such run.*The latest: a"):
        RunFolder.find("aa")


def test_names_are_under_results_and_paths_are_paths(tmp_path):
    assert RunFolder.named("x", "s").path == Path("results/x")
    assert RunFolder.named("my run", "s").path == Path("results/my run")
    assert RunFolder.named("./x", "s").path == Path("x")
    assert RunFolder.named("a/x", "s").path == Path("a/x")
    assert RunFolder.named(".", "s").path == Path()
    assert RunFolder.named(str(tmp_path / "x"), "s").path == tmp_path / "x"


def test_runs_without_a_name_do_not_meet():
    first = RunFolder.named(None, "spaces/mine.yaml")
    first.create()
    second = RunFolder.named(None, "spaces/mine.yaml")
    assert first.path.name.startswith("mine-")
    assert first.path != second.path


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be written.*run=PATH"):
        RunFolder(tmp_path / "file" / "run").create()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_told(tmp_path):
    (tmp_path / "ro").mkdir(mode=0o500)
    with pytest.raises(RunError, match="cannot be written"):
        RunFolder(tmp_path / "ro" / "run").create()


def test_a_nearly_full_disk_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "FREE_BYTES", 2**60)
    with pytest.raises(RunError, match="nearly full"):
        RunFolder(tmp_path / "run").create()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)], capture_output=True).returncode:
        pytest.skip("may not mount a small file system here")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_disk_that_is_really_full(small_disk, monkeypatch):
    with pytest.raises(RunError, match="nearly full"):
        RunFolder(small_disk / "run").create()
    monkeypatch.setattr(runs, "FREE_BYTES", 0)
    folder = RunFolder(small_disk / "run")
    folder.create()
    folder.write(folder.best, "the old text")
    with pytest.raises(RunError, match=r"disk is full.*nas resume"):
        folder.write(folder.best, "x" * 2**20)
    assert folder.best.read_text() == "the old text"
    assert not list(folder.path.glob("*.partial"))
    (small_disk / "filler").write_bytes(b"")
    with (small_disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(RunError, match="disk is full"):
        folder.append_row(folder.trials, ("a",), {"a": "y" * 8192})


def test_rows_are_appended_and_tables_replaced(tmp_path):
    folder = made("run")
    folder.write_table(folder.trials, ("a", "b"), [{"a": 1, "c": 3}])
    folder.append_row(folder.trials, ("a", "b"), {"a": "x,y", "b": 'say "z"'})
    assert folder.trials.read_text() == 'a,b\n1,\n"x,y","say ""z"""\n'


def test_a_change_of_machine_is_told(tmp_path, monkeypatch):
    folder = made("run")
    assert folder.write_environment({"device": "cpu"}) == []
    assert folder.write_environment({"device": "cpu"}) == []
    monkeypatch.setenv("NAS_PROCESSOR", "another one")
    (change,) = folder.write_environment({"device": "cpu"})
    assert "another one" in change
    folder.environment.write_text("no json")
    assert folder.write_environment({}) == []


def test_weights_that_are_not_needed_go(tmp_path):
    folder = made("run")
    for name in ("1.pt", "2.pt", "3.partial"):
        (folder.weights / name).write_text("")
    folder.keep_weights([1])
    assert [path.name for path in folder.weights.iterdir()] == ["1.pt"]
    folder.drop_weights(1)
    folder.drop_weights(1)
    assert not list(folder.weights.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_log_on_a_full_disk_is_silent(tmp_path, capsys):
    folder = RunFolder(tmp_path)
    folder.log.symlink_to("/dev/full")
    log = folder.logger()
    log.warning("a word that finds no room")
    (handler,) = log.handlers
    log.removeHandler(handler)
    with suppress(OSError):
        handler.close()
    assert capsys.readouterr().err == ""


def test_a_folder_of_other_files_is_no_place_for_a_run():
    Path("photos").mkdir()
    RunFolder(Path("photos")).refuse_others()
    Path("photos/cat.png").touch()
    with pytest.raises(RunError, match=r"photos: this folder holds other files; got 'cat.png'"):
        RunFolder(Path("photos")).refuse_others()
    RunFolder(Path("new")).refuse_others()
    made("mine").refuse_others()
    Path("mine/config.yaml").unlink()
    RunFolder(Path("mine")).refuse_others()  # one that ended before it began
