"""Processes that join over TCP, as from another machine, and strangers at the door."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nas.errors import RunError, UsageError
from nas.search.executors import far, host, remote
from nas.search.executors.base import Executor, Failed, Finished, Job, Progress, Resources
from nas.search.executors.far import FarWorker
from nas.search.executors.host import Host
from nas.search.executors.join import join
from nas.search.executors.local import LocalExecutor
from nas.search.executors.remote import Endpoint, Talk, parse_address, proof, read_token
from nas.search.executors.wire import Lines, encode
from tests.cli.contract import contract
from tests.search.executors.contract import MODEL, MODELS, TASK, ExecutorContract, ends, job, run_all, wait

SLOT = Resources(device="cpu", kind="cpu", fraction=1.0, cpus=(0,))
WORDS = [sys.executable, "-c", "import sys; from nas.cli import main; sys.exit(main())"]


QUICK = "from nas.search.executors import host; host.BACK_EVERY_S = 0.0; "
"""Has a worker's process bring files back whenever it can."""


def worker(endpoint: Endpoint, *words: str, token: str | None = None, first: str = "", **variables: str) -> subprocess.Popen[str]:
    command = [*WORDS[:2], first + WORDS[2], "worker", f"connect={endpoint.host}:{endpoint.port}", *words]
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                            env={**os.environ, "NAS_TOKEN": token or endpoint.token, "PYTHONPATH": os.getcwd(),
                                 **variables})  # fmt: skip


class Joined(LocalExecutor):
    """No slot but those that join: as many as are asked for, by threads of this process."""

    def __init__(self, slots: int) -> None:
        endpoint = Endpoint.open("0")
        super().__init__(TASK, workers=1, gpus_per_trial=0, preload=MODELS, endpoint=endpoint)
        (own,) = self._slots
        own.worker.close()
        self._selector.unregister(own.worker.socket)
        self._slots, self._resources = [], []
        self._output = os.open(os.devnull, os.O_WRONLY)
        self._guest = threading.Thread(
            target=join, args=((endpoint.host, endpoint.port), endpoint.token, [SLOT] * slots), kwargs={"output": self._output})
        self._guest.start()
        wait(self, lambda events: self.free == slots)

    def _release(self) -> None:
        super()._release()
        self._guest.join(20)
        os.close(self._output)


@pytest.mark.slow  # half a minute
class TestJoined(ExecutorContract):
    def open(self, slots: int) -> Executor:
        return Joined(slots)


def test_a_machine_joins_works_and_leaves(tmp_path):
    plugin, folder, weights = tmp_path / "my_ops.py", tmp_path / "data", tmp_path / "1.pt"
    folder.mkdir()
    plugin.write_text("plugin ")
    (folder / "data.txt").write_text("data ")
    weights.write_text("checkpoint ")
    paths = {"plugin": str(plugin), "folder": str(folder), "file": str(weights)}
    endpoint = Endpoint.open("0", carry=[plugin, folder])
    with LocalExecutor(TASK, workers=1, gpus_per_trial=0, endpoint=endpoint) as executor:
        guest = worker(endpoint, "workers=2")
        wait(executor, lambda events: executor.free == 3)
        assert [slot.device.partition("@")[0] for slot in executor.resources] == ["cpu"] * 3
        executor.submit(job(0, "until_stopped"))
        wait(executor, bool)
        local = [slot.index for slot in executor._slots if slot.job is not None]
        for trial in (1, 2):  # whichever slots they get, at most one of which is this machine's
            executor.submit(Job(trial=trial, payload={"do": "files", **paths}, files=(str(weights),)))
            ended = ends(wait(executor, ends))
            assert isinstance(ended[trial], Finished)
        assert weights.read_text() == "plugin data plugin data checkpoint "
        executor.submit(job(3, "sleep", seconds=60))
        executor.submit(job(4, "sleep", seconds=60))
        wait(executor, lambda events: {event.trial for event in events if isinstance(event, Progress)} >= {3, 4})
        guest.send_signal(signal.SIGKILL)
        guest.communicate()
        remote_trials = {slot.job.trial for slot in executor._slots if slot.job and slot.index > 0}
        ended = ends(wait(executor, lambda events: len(ends(events)) == len(remote_trials)))
        assert {end.kind for end in ended.values() if isinstance(end, Failed)} == {"lost"}
        assert set(ended) == remote_trials
        assert all("it has left" in end.reason for end in ended.values() if isinstance(end, Failed)), local
        assert len(executor.resources) == 3
        again = worker(endpoint, "workers=1", "--json")
        wait(executor, lambda events: any(slot.open and slot.job is None and slot.index for slot in executor._slots))
        assert len(executor.resources) == 3, "it has the slot of one who left"
        assert isinstance(run_all(executor, job(5, "nothing"))[1][5], Finished)
    out, err = again.communicate(timeout=20)
    assert again.returncode == 0
    assert json.loads(out) == {"search": f"127.0.0.1:{endpoint.port}", "slots": 1, "seconds": json.loads(out)["seconds"],
                               "interrupted": False}  # fmt: skip
    assert set(json.loads(out)) == contract("JSON of worker")
    joined, left = (line for line in err.splitlines() if not line.startswith("note: core"))  # its driver may have them all
    assert joined == f"joined 127.0.0.1:{endpoint.port} with 1 slot"
    assert "the search has ended" in left


def test_a_machine_of_another_model_trains_and_does_not_measure():
    """And when the only one of a model has left, nobody else stands in for it until it is back."""
    endpoint = Endpoint.open("0")
    with LocalExecutor(TASK, workers=1, gpus_per_trial=0, preload=MODELS, endpoint=endpoint) as executor:
        guest = worker(endpoint, "workers=1", TESTS_MODEL="another")
        wait(executor, lambda events: executor.free_on(MODEL) == executor.free_on("another") == 1)
        assert executor.submit(job(1, "until_stopped", spares=MODEL)) == 1
        for trial in (2, 3):
            assert executor.submit(job(trial, "nothing", needs=MODEL)) == 0
            assert (executor.free, executor.free_on("another")) == (0, 0)
            assert isinstance(ends(wait(executor, ends))[trial], Finished)
        executor.stop(1)
        assert isinstance(ends(wait(executor, ends))[1], Finished)

        assert executor.submit(job(4, "until_stopped", needs="another")) == 1
        wait(executor, lambda events: any(isinstance(event, Progress) for event in events))
        guest.kill()
        guest.communicate()
        end = ends(wait(executor, ends))[4]
        assert isinstance(end, Failed)
        assert end.kind == "lost"
        assert (executor.resources[1].models, executor.free_on("another")) == ({}, 0)
        assert isinstance(run_all(executor, job(5, "nothing"))[1][5], Finished), "here it goes on"
        for model in ("a third", "another"):  # in the same slot, one after the other
            guest = worker(endpoint, "workers=1", TESTS_MODEL=model)
            wait(executor, lambda events, model=model: executor.free_on(model) == 1)
            assert executor.free_on("another") == (model == "another")
            assert executor.submit(job(6, "nothing", needs=model)) == 1
            assert isinstance(ends(wait(executor, ends))[6], Finished)
            guest.kill()
            guest.communicate()
            wait(executor, lambda events, model=model: executor.free_on(model) == 0)


def test_a_result_too_large_to_travel_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "FILE_LIMIT", 10)
    (tmp_path / "w").write_text("more than ten bytes")
    paths = {"plugin": "", "folder": "", "file": str(tmp_path / "w")}
    with Joined(1) as executor:
        executor.submit(Job(trial=1, payload={"do": "files", **paths}, files=(paths["file"],)))
        end = ends(wait(executor, ends))[1]
        assert isinstance(end, Failed)
        assert "more than the 0 MiB that travel" in end.reason


def test_the_folder_of_a_jobs_files_is_a_folder_there(tmp_path):
    """What is written into them comes back, and the folder with it where the driver has none."""
    source, folder = tmp_path / "in.txt", tmp_path / "made" / "there"
    source.write_text("in ")
    with Joined(1) as executor:
        for trial, files in ((1, [folder / "out.txt", folder / "in.txt"]), (2, [folder / "in.txt", folder / "out.txt"])):
            executor.submit(Job(trial=trial, payload={"do": "folder", "folder": str(folder)}, files=tuple(map(str, files))))
            end = ends(wait(executor, ends))[trial]
            if trial == 1:
                assert isinstance(end, Failed), "there is no in.txt yet"
                folder.mkdir(parents=True, exist_ok=True)
                source.rename(folder / "in.txt")
        assert isinstance(end, Finished)
        assert end.result["there"] != str(folder)
    assert (folder / "out.txt").read_text() == "in out "
    assert not (folder / "other.txt").exists()


def test_large_files_travel_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "CHUNK", 1000)
    path = tmp_path / "w"
    path.write_text("0123456789" * 1000)
    with Joined(1) as executor:
        for trial in (1, 2):
            paths = {"plugin": str(path), "folder": "", "file": str(path)}
            executor.submit(Job(trial=trial, payload={"do": "files", **paths}, files=(str(path),)))
            assert isinstance(ends(wait(executor, ends))[trial], Finished)
    assert path.read_text() == "0123456789" * 4000


def written_on(folder: Path, trial: int = 1, **payload: object) -> Job:
    """Counts on in a file, which is its checkpoint, and in one that is written before it every time."""
    files = (str(folder / "best"), str(folder / "checkpoint"))
    return Job(trial=trial, payload={"do": "write_on", "first": files[0], "second": files[1], **payload}, files=files)


def counted(path: Path) -> int:
    return int(path.read_text()) if path.exists() else 0


def test_a_job_whose_machine_is_lost_goes_on_from_what_had_come_back(tmp_path):
    """Elsewhere, here on the driver's own machine."""
    endpoint = Endpoint.open("0")
    with LocalExecutor(TASK, workers=1, gpus_per_trial=0, endpoint=endpoint) as executor:
        guest = worker(endpoint, "workers=1", first=QUICK)
        wait(executor, lambda events: executor.free == 2)
        assert executor.submit(job(0, "until_stopped")) == 0
        assert executor.submit(written_on(tmp_path)) == 1
        wait(executor, lambda events: counted(tmp_path / "checkpoint") > 20)
        guest.kill()
        guest.communicate()
        end = ends(wait(executor, ends))[1]
        assert isinstance(end, Failed)
        assert end.kind == "lost"
        back = counted(tmp_path / "checkpoint")
        assert counted(tmp_path / "best") >= back
        executor.stop(0)
        wait(executor, ends)
        assert executor.submit(written_on(tmp_path)) == 0
        (progress, *_) = [event for event in wait(executor, lambda events: any(isinstance(e, Progress) for e in events))
                          if isinstance(event, Progress)]  # fmt: skip
        assert progress.values == {"step": back + 1, "begun": back}


def test_no_file_comes_without_what_was_written_before_it_and_none_is_older_than_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "BACK_EVERY_S", 0.0)
    monkeypatch.setattr(host, "BACK_PAUSE", 0.0)
    read, seen = host.file_lines, []

    def slowly(path, there):
        lines = read(path, there)
        time.sleep(0.02)  # the job writes on
        return lines

    monkeypatch.setattr(host, "file_lines", slowly)
    with Joined(1) as executor:
        executor.submit(written_on(tmp_path, steps=1000, pause=0.001))

        def over(events):
            second, first = counted(tmp_path / "checkpoint"), counted(tmp_path / "best")
            assert first >= second
            seen.append(second)
            return ends(events)

        end = ends(wait(executor, over))[1]
    assert isinstance(end, Finished)
    assert seen == sorted(seen)
    assert len({*seen}) > 5, "while it went on"
    assert (counted(tmp_path / "best"), counted(tmp_path / "checkpoint")) == (1000, 1000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "checkpoint"]


@pytest.mark.parametrize(("every", "times"), [(60.0, 0), (0.5, 3)])
def test_files_come_back_only_so_often(tmp_path, monkeypatch, every, times):
    monkeypatch.setattr(host, "BACK_EVERY_S", every)
    seen = set()
    with Joined(1) as executor:
        executor.submit(written_on(tmp_path))
        begin = time.monotonic()
        wait(executor, lambda events: seen.add(counted(tmp_path / "checkpoint")) or time.monotonic() - begin > 2.2)
        assert times - 1 <= len(seen - {0}) <= times + 1
        executor.stop(1)
        assert isinstance(end := ends(wait(executor, ends))[1], Finished)
        assert counted(tmp_path / "checkpoint") == end.result["step"]


def test_a_slow_link_is_not_filled(tmp_path, monkeypatch):
    """What has taken a while to leave is not sent again for nine times as long."""
    monkeypatch.setattr(host, "BACK_EVERY_S", 0.1)
    far_end, lines, sent = Host(TASK, None, SLOT, output=2, copies={}), Lines(), written_on(tmp_path)
    came: list[str] = []

    def until(last: Callable[[dict[str, Any]], bool]) -> tuple[float, float]:
        """When a file came first and when the last message had come, over a link that takes 50 ms for a piece of a file."""
        first = 0.0
        while True:
            for message in lines.feed(far_end.drain(1.0)):
                if message["is"] == "file":
                    first = first or time.monotonic()
                    came.extend([message["path"]] * (not message["more"]))
                    time.sleep(0.05)
                if last(message):
                    return first, time.monotonic()

    try:
        far_end.feed(encode({"is": "start"}, where="start"))
        until(lambda message: message["is"] == "ready")
        monkeypatch.setattr(host, "CHUNK", 1)
        far_end.feed(encode({"is": "job", "trial": 1, "payload": sent.payload, "files": list(sent.files)}, where="job"))
        whole = until(lambda message: message["is"] == "file" and message["path"] == sent.files[1] and not message["more"])
        assert came == list(sent.files), "what was written first comes first"
        again, _ = until(lambda message: message["is"] == "file")
        assert again - whole[1] > 8 * (whole[1] - whole[0] - 0.05), "the last piece takes its time after it has left"
    finally:
        far_end.close()


def test_of_a_machine_that_is_lost_nothing_half_stays_and_nothing_more_is_taken(tmp_path):
    """The files are those of whoever does the job again."""
    class Far(FarWorker):
        def transmit(self, data: bytes) -> None:
            pass

        def close(self) -> None:
            pass

    def piece(**words: object) -> bytes:
        return encode({"is": "file", "path": str(path), "data": b64encode(b"old").decode(), **words}, where="file")

    path, far_one = tmp_path / "checkpoint", Far()
    far_one.submit(b"{}", (str(path),))
    far_one.feed(piece(first=True, more=True))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.arriving"]
    far_one.lose("no sign of life")
    assert list(tmp_path.iterdir()) == []
    Path(f"{path}.arriving").write_text("new")  # of the next one, which is being brought
    far_one.lose("it was closed")
    far_one.feed(piece(first=False, more=False))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"checkpoint.arriving": "new"}


def test_a_file_too_large_to_travel_is_told_at_the_end_and_not_before(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "BACK_EVERY_S", 0.0)
    monkeypatch.setattr(host, "FILE_LIMIT", 1)
    with Joined(1) as executor:
        executor.submit(written_on(tmp_path))
        wait(executor, lambda events: any(isinstance(e, Progress) and e.values["step"] > 30 for e in events))
        assert counted(tmp_path / "checkpoint") < 10, "those of one figure came"
        executor.stop(1)
        assert isinstance(end := ends(wait(executor, ends))[1], Failed)
        assert "more than the 0 MiB that travel" in end.reason


def test_a_worker_that_dies_and_leaves_a_child_behind_is_noticed():
    with Joined(1) as executor:
        executor.submit(job(1, "child", die=True))
        end = ends(wait(executor, ends))[1]
        assert isinstance(end, Failed)
        assert (end.kind, "SIGKILL" in end.reason) == ("died", True)


def test_a_disk_that_takes_no_file_is_a_failure(monkeypatch, tmp_path):
    (tmp_path / "w").write_text("checkpoint")
    with Joined(1) as executor:
        monkeypatch.setattr(host, "write_chunk", lambda *_: os.stat(tmp_path / "nowhere"))
        executor.submit(Job(trial=1, payload={"do": "nothing"}, files=(str(tmp_path / "w"),)))
        end = ends(wait(executor, ends))[1]
        assert isinstance(end, Failed)
        assert "its files cannot be written on its machine: No such file" in end.reason
        monkeypatch.undo()
        executor.submit(Job(trial=2, payload={"do": "nothing"}, files=(str(tmp_path / "w"),)))
        assert isinstance(ends(wait(executor, ends))[2], Finished)


def test_a_frozen_machine_is_lost(monkeypatch):
    monkeypatch.setattr(remote, "LOST_S", 3.0)
    endpoint = Endpoint.open("0")
    with LocalExecutor(TASK, workers=1, gpus_per_trial=0, endpoint=endpoint) as executor:
        guest = worker(endpoint, "workers=1")
        wait(executor, lambda events: executor.free == 2)
        executor.submit(job(1, "until_stopped"))
        executor.submit(job(2, "until_stopped"))
        wait(executor, lambda events: {event.trial for event in events if isinstance(event, Progress)} == {1, 2})
        guest.send_signal(signal.SIGSTOP)
        end = next(iter(ends(wait(executor, ends)).values()))
        assert isinstance(end, Failed)
        assert (end.kind, "no sign of life" in end.reason) == ("lost", True)
        guest.kill()
        guest.communicate()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"token": "another-token-altogether"}, "the token is not this search's"),
        ({"version": "9.9"}, "different versions"),
        ({"slot": Resources(device="cuda:0", kind="gpu", fraction=1.0)}, "the search trains on CPUs"),
    ],
)
def test_who_does_not_fit_is_told(said, words, monkeypatch):
    endpoint = Endpoint.open("0")
    with LocalExecutor(TASK, workers=1, gpus_per_trial=0, endpoint=endpoint) as executor:
        if "version" in said:
            monkeypatch.setattr(far, "versions", lambda: {"nas": said["version"]})
        with pytest.raises(RunError, match=words):
            join((endpoint.host, endpoint.port), said.get("token", endpoint.token), [said.get("slot", SLOT)], output=2)
        assert executor.poll(0.1) == []
        assert len(executor.resources) == 1


def test_a_driver_that_does_not_know_the_token_runs_nothing_here():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def impostor() -> None:
            end, _ = listener.accept()
            talk = Talk(end)
            talk.say(**{"is": "nas", "nonce": "1"})
            talk.hear("join")
            talk.say(**{"is": "welcome", "proof": proof("guessed", "driver", "1", "2"), "task": TASK, "preload": None,
                        "digest": "0", "files": []})  # fmt: skip
            end.close()

        thread = threading.Thread(target=impostor)
        thread.start()
        with pytest.raises(RunError, match="does not know the token"):
            join(listener.getsockname(), "a-token-of-some-length", [SLOT], output=2)
        thread.join()


@pytest.mark.parametrize("noise", [b"", b"GET / HTTP/1.1\r\n\r\n", b"{}\n", b"[1]\n", b"[" * 50_000 + b"\n", b"x" * 200_000])
def test_strangers_are_sent_away(noise):
    endpoint = Endpoint.open("0")
    with LocalExecutor(TASK, workers=1, gpus_per_trial=0, endpoint=endpoint) as executor:
        with socket.create_connection((endpoint.host, endpoint.port)) as stranger:
            assert json.loads(stranger.recv(200))["is"] == "nas"
            answer = b""
            with suppress(ConnectionResetError, BrokenPipeError):  # sent away in the middle of the word
                stranger.sendall(noise)
                stranger.shutdown(socket.SHUT_WR)
                answer = stranger.recv(100)
            assert answer == b""
        assert isinstance(run_all(executor, job(1, "nothing"))[1][1], Finished)


@pytest.mark.parametrize(("text", "host", "found"), [
    ("10.0.0.1:70", None, ("10.0.0.1", 70)), ("70", "127.0.0.1", ("127.0.0.1", 70)), ("[::1]:70", None, ("::1", 70)),
])  # fmt: skip
def test_addresses(text, host, found):
    assert parse_address(text, host=host) == found


@pytest.mark.parametrize("text", ["70", "host", "host:", "host:99999", ":70", ""])
def test_what_is_no_address(text):
    with pytest.raises(UsageError, match="not an address"):
        parse_address(text)


def test_a_token_comes_from_the_command_a_file_or_the_environment(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("NAS_TOKEN", raising=False)
    assert read_token(None) is None
    (tmp_path / "token").write_text("sixteen-letters!\n")
    assert read_token(f"@{tmp_path / 'token'}") == "sixteen-letters!"
    monkeypatch.setenv("NAS_TOKEN", "from-the-environment")
    assert (read_token(None), read_token("given-on-the-line")) == ("from-the-environment", "given-on-the-line")
    for bad, words in (("short", "too short"), ("@/no/such/file", "cannot be read")):
        with pytest.raises(UsageError, match=words):
            read_token(bad)


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(RunError, match="cannot listen"):
        Endpoint.open(f"127.0.0.1:{taken.getsockname()[1]}")


@pytest.mark.parametrize(("words", "says"), [
    ([], "connect is missing"), (["connect=h:1"], "token is missing"),
    (["connect=h", "token=0123456789abcdef"], "not an address"),
    (["connect=127.0.0.1:9", "token=0123456789abcdef"], "no search answers"),
])  # fmt: skip
def test_the_command_line(words, says, capsys, monkeypatch):
    from nas.cli import main

    monkeypatch.delenv("NAS_TOKEN", raising=False)
    assert main(["worker", *words]) == 2
    assert says in capsys.readouterr().err
