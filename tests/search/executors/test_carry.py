"""Files that every machine needs: copied once, shared while somebody needs them, removed when nobody does."""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import RunError
from nas.search.executors.carry import Copies, Piece, Scratch, digest, is_whole, pieces
from nas.search.executors.host import file_lines, rewritten, write_chunk
from nas.search.executors.wire import Lines


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The machine's temporary folder is the test's."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


def carried(found: list[Piece]) -> list[tuple[str, str, object]]:
    return [(piece.path, piece.name, piece.source.read_bytes) for piece in found]


@pytest.fixture
def files(tmp_path) -> list[Piece]:
    (tmp_path / "data").mkdir()
    for name in ("data/a.npy", "data/b.json", "my_ops.py"):
        (tmp_path / name).write_text(f"this is {name}")
    return pieces([tmp_path / "my_ops.py", tmp_path / "data"])


def test_copies_stand_where_the_table_says(files, tmp_path):
    copies = Copies(digest(files), carried(files))
    plugin, folder = copies.table[str(tmp_path / "my_ops.py")], copies.table[str(tmp_path / "data")]
    assert Path(plugin).read_text() == "this is my_ops.py"
    assert {path.name: path.read_text() for path in Path(folder).iterdir()} == {
        "a.npy": "this is data/a.npy", "b.json": "this is data/b.json"}  # fmt: skip
    assert Path(plugin).parents[1].stat().st_mode & 0o077 == 0
    copies.close()


def test_they_are_fetched_once(files):
    count = []

    def fetch() -> bytes:
        count.append(1)
        return b"content"

    made: list[Copies] = []
    threads = [threading.Thread(target=lambda: made.append(Copies("name", [("/p/x", "x", fetch)]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(count), is_whole("name"), is_whole("other")) == (4, 1, True, False)
    for copies in made:
        copies.close()


def test_what_was_broken_off_is_made_again(files):
    def fails() -> bytes:
        raise OSError("the driver is gone")

    with pytest.raises(OSError, match="gone"):
        Copies("name", [("/p/x", "x", lambda: b"1"), ("/p/y", "y", fails)])
    assert not is_whole("name")
    copies = Copies("name", [("/p/x", "x", lambda: b"2")])
    assert Path(copies.table["/p/x"]).read_bytes() == b"2"
    copies.close()


KILLED = """
import os, signal
from nas.search.executors.carry import Scratch
scratch = Scratch()
print(scratch.folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_nobody_uses_goes_when_the_next_comes(files):
    one = Copies("one", carried(files))
    two = Copies("two", carried(files))
    scratch = Scratch()
    assert {is_whole("one"), is_whole("two"), scratch.folder.is_dir()} == {True}
    one.close()
    killed = subprocess.run([sys.executable, "-c", KILLED], text=True, capture_output=True, check=False,
                            env={**os.environ, "TMPDIR": tempfile.gettempdir()}).stdout.strip()  # fmt: skip
    assert Path(killed).is_dir()
    three = Scratch()
    assert [is_whole("one"), is_whole("two"), scratch.folder.is_dir(), Path(killed).is_dir()] == [False, True, True, False]
    for each in (two, scratch, three):
        each.close()
    assert not scratch.folder.exists()


def test_another_content_has_another_name(files):
    before = digest(files)
    assert digest(files) == before
    files[0].source.write_text("something else")
    assert digest(files) != before


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(RunError, match="no such file to carry"):
        pieces([tmp_path / "my_ops.py"])


WORDS = st.text(max_size=3)
PLAIN = st.recursive(st.integers() | WORDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
                     max_leaves=9)  # fmt: skip


@given(PLAIN)
def test_a_payload_without_carried_paths_stays(value):
    assert rewritten(value, {"/some/long/path": "x"}) == value


def test_paths_in_a_payload_are_replaced_where_they_are_whole():
    table = {"/run/1.pt": "/tmp/1.pt"}
    assert rewritten({"a": ["/run/1.pt", "/run/1.pt.x", {"/run/1.pt": "/run/1.pt"}], "b": 1}, table) == {
        "a": ["/tmp/1.pt", "/run/1.pt.x", {"/run/1.pt": "/tmp/1.pt"}], "b": 1}  # fmt: skip


@given(st.binary(max_size=40), st.integers(1, 12))
def test_a_file_arrives_as_it_was_in_pieces_of_any_size(tmp_path_factory, data, chunk):
    folder = tmp_path_factory.mktemp("files")
    (folder / "from").write_bytes(data)
    (folder / "to.arriving").write_bytes(b"left by a connection that broke")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.search.executors.host.CHUNK", chunk)
        lines = file_lines(str(folder / "from"), "there")
    for message in Lines().feed(b"".join(lines)):
        assert message["path"] == "there"
        write_chunk(message, folder / "to")
    assert (folder / "to").read_bytes() == data
    assert not (folder / "to.arriving").exists()
    assert file_lines(str(folder / "none"), "there") == []
