"""Actors of a Ray cluster: one a slot, each hosting a warm worker process on whatever machine Ray finds for it.

Ray places the actors, counts what they hold and carries the messages; jobs run in the process that an actor hosts, as they
do on one machine. So a job that crashes, hangs or is killed costs a process and not an actor, and is told by its signal.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nas.errors import RunError
from nas.search.executors.base import Resources
from nas.search.executors.carry import Copies, digest, pieces
from nas.search.executors.cluster import Ask, capacity, connect, connected_ray, connection, contents, room_for, the_ray
from nas.search.executors.far import BEAT_S, LOST_S, FarWorker, disagreement
from nas.search.executors.host import Host, versions
from nas.search.executors.pool import START_ATTEMPTS, Slot, WorkerPool
from nas.search.executors.task import check_path, shorten
from nas.search.executors.wire import encode

SETTLE_S = 3.0
"""Seconds to wait for nodes to become free that are to be filled."""
PAUSE_S, LONGEST_PAUSE_S = 30.0, 600.0
"""Seconds before a slot whose worker could not start is tried again, twice as many each time, and at most: Ray places it on the
same node as long as that has the room."""


class RayHost:
    """The actor. It is asynchronous, so that a message gets in while ``receive`` waits: Ray's concurrency groups would do that
    too, but not through ``ray://`` (2.60), where they are not known. Ray brings the calls of such an actor in any order (seen on
    a busy machine: a stop before its job), so messages are numbered."""

    def __init__(self, task: str, preload: str | None, held: Resources, name: str,
                 carried: Sequence[tuple[str, str, list[Any]]]) -> None:  # fmt: skip
        ray = the_ray()
        context = ray.get_runtime_context()
        gpus = tuple(map(str, context.get_accelerator_ids().get("GPU", ())))
        self._hello = {
            "is": "hello", "versions": versions(), "node": ray.util.get_node_ip_address(), "gpus": gpus, "pid": os.getpid(),
        }  # fmt: skip
        self._copies = Copies(name, [(path, file, partial(ray.get, ref[0])) for path, file, ref in carried])
        self._host = Host(task, preload, replace(held, gpus=gpus), output=2, copies=self._copies.table)
        self._greeted = False
        self._early: dict[int, bytes] = {}
        self._next = 0

    async def send(self, number: int, data: bytes) -> None:
        """Takes a message for the host, which gets them by their numbers, from 0."""
        self._early[number] = data
        while self._next in self._early:
            self._host.feed(self._early.pop(self._next))
            self._next += 1

    async def receive(self, wait: float) -> bytes:
        """Messages from the host, or none after ``wait`` seconds."""
        if not self._greeted:
            self._greeted = True
            return encode(self._hello, where="hello")
        return await asyncio.to_thread(self._host.drain, wait)


class RayWorker(FarWorker):
    """The driver's end of one actor. One call of ``receive`` is always under way; its end wakes the driver."""

    def __init__(self, actor: Any, wake: Callable[[], None]) -> None:
        super().__init__()
        self._actor, self._wake = actor, wake
        self._answer: Any = None
        self._asked, self._sent = time.monotonic(), 0
        self.placed, self.pause = False, 0.0
        self.hello: dict[str, Any] = {}
        self._ask()

    def _ask(self) -> None:
        self._asked = time.monotonic()
        with self._losing():
            connected_ray()
            self._answer = self._actor.receive.remote(BEAT_S).future()
            self._answer.add_done_callback(lambda _: self._wake())

    def look(self) -> bool:
        """Takes what the actor has answered, if it has, and asks again; whether it had."""
        if self.lost or not self._answer.done():
            if self.placed and not self.lost and time.monotonic() - self._asked > LOST_S:
                self.lose(f"no sign of life for {LOST_S:g} s")
            return False
        data = b""
        with self._losing():
            data = self._answer.result()
        if not self.lost:
            self._ask()
            self.placed = True
            self.feed(data)
        return True

    def transmit(self, data: bytes) -> None:
        with self._losing():
            connected_ray()
            self._actor.send.remote(self._sent, data)
            self._sent += 1

    @contextmanager
    def _losing(self) -> Iterator[None]:
        """Whatever Ray raises within the block, this actor answers no more."""
        try:
            yield
        except Exception as error:
            why, hopeless = _why(error)
            self.lose(why, hopeless=hopeless)

    def close(self) -> None:
        self.lose("it was closed")
        with suppress(Exception):  # The cluster may be gone.
            connected_ray().kill(self._actor)


def _why(error: Exception) -> tuple[str, bool]:
    """What Ray says of an actor that does not answer, in few words, and whether another actor would fare the same."""
    text, name = " ".join(str(error).split()), type(error).__name__
    if "node has died" in text:
        return "its node has died", False
    if isinstance(error, ConnectionError):
        return "no connection to the cluster", False
    known = {"ActorUnavailableError": "no connection to it", "ActorDiedError": "its actor has died"}
    if "creation task" in text:  # What keeps an actor from beginning, a user can mend; it is the traceback's last line.
        return shorten(str(error).strip().rpartition("\n")[2]), True
    return known.get(name) or shorten(f"{name}: {text}"), name not in known


class RayExecutor(WorkerPool):
    """Runs the task ``package.module:function`` on a Ray cluster, as many jobs at a time as it has room for.

    Args:
        task: import path of the function; it has to be importable on the nodes.
        address: ``auto`` (the cluster this machine belongs to), ``ray://HOST:PORT``, ``HOST:PORT``, or ``local`` for a
            cluster of our own on this machine, ended with the executor. A Ray that this process has initialised is used.
        workers: slots; None for as many as are free now. A slot opens when it is placed: the others ask for room, which a cluster
            on demand grows by. ``waiting``: how many had none at the start.
        ask: what each slot asks for.
        preload: as for :class:`~.local.LocalExecutor`.
        carry: files, and folders of files, that are copied to every node once; payloads name them by these paths.
        start_timeout: seconds that the pool waits with no slot placed at all, and for a placed worker to be ready.
        say: told, in a line, of a node that is lost to the search because no worker starts there.

    Raises RunError when there is no such cluster, UsageError when nothing of it can hold a slot.
    """

    def __init__(self, task: str, *, address: str = "auto", workers: int | None = None, ask: Ask | None = None,
                 preload: str | None = None, carry: Sequence[Path | str] = (), start_timeout: float = 600.0,
                 say: Callable[[str], None] = lambda _: None) -> None:  # fmt: skip
        super().__init__(check_path(task), start_timeout=start_timeout,
                         log_hint="nas and torch have to be installed on every node; Ray's logs there say more.")  # fmt: skip
        self._ask, self._say = ask or Ask(), say
        self._failures: Counter[int] = Counter()  # by slot, in a row
        self._resting: dict[int, float] = {}  # slots without a worker, and until when
        carried = pieces(carry)
        self._disconnect = connect(address)
        try:
            self._open(task, preload, carried, workers)
        except BaseException:
            self._disconnect()
            raise

    def _open(self, task: str, preload: str | None, carried: Any, workers: int | None) -> None:
        import numpy as np

        ray = the_ray()
        fit, free = capacity(self._ask)
        if workers is None:
            room_for(self._ask)
        begin = time.monotonic()
        while free < min(fit, workers or fit) and time.monotonic() - begin < SETTLE_S:
            time.sleep(0.1)  # Actors of a search that has just ended are still leaving.
            fit, free = capacity(self._ask)
        count = workers or min(fit, max(free, 1))
        held = Resources(device=self._ask.device, kind="gpu" if self._ask.gpus else "cpu",
                         fraction=self._ask.gpus or self._ask.cpus or 1.0, threads=max(1, int(self._ask.cpus)))  # fmt: skip
        self._refs = [(piece.path, piece.name, [ray.put(np.fromfile(piece.source, dtype=np.uint8))]) for piece in carried]
        remote: Any = ray.remote
        kind, name = remote(RayHost), digest(carried)
        self._make = lambda: kind.options(**self._ask.options(), max_restarts=0).remote(task, preload, held, name, self._refs)
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ, self._hear)
        self._placed = time.monotonic()
        for index in range(count):
            self._resources.append(held)
            self._slots.append(Slot(index, self._spawn(), open=False))  # until it is placed: waiting costs nothing
        self.waiting = count - min(count, fit, free)

    def _spawn(self) -> RayWorker:
        make: Any = self._make
        with connection():
            connected_ray()
            return RayWorker(make(), self._rouse)

    def _rouse(self) -> None:
        """Wakes the driver from one of Ray's threads."""
        with suppress(OSError):  # Full: it wakes anyway. Closed: nobody to wake.
            self._waker.send(b".")

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            while self._wake.recv(4096):
                pass

    def _tend(self) -> None:
        for index in [index for index, until in self._resting.items() if until <= time.monotonic()]:
            del self._resting[index]
            self._slots[index].worker = self._spawn()
        for slot in self._slots:
            worker = slot.worker
            assert isinstance(worker, RayWorker)
            if worker.look():
                self._listen(slot)
            if worker.placed and not worker.lost:
                self._placed = time.monotonic()
        if time.monotonic() - self._placed > self._start_timeout:
            with connection():
                self._broken = RunError(f"the cluster gave no room for {self._ask} in {self._start_timeout:g} s", got=contents())

    def _take(self, slot: Slot, message: dict[str, Any]) -> None:
        if message["is"] == "hello":
            self._greet(slot, message)
        else:
            if message["is"] == "ready":
                del self._failures[slot.index]
            super()._take(slot, message)

    def _greet(self, slot: Slot, hello: dict[str, Any]) -> None:
        assert isinstance(slot.worker, RayWorker)
        slot.heard, slot.worker.hello = time.monotonic(), hello
        gpus = tuple(hello["gpus"])
        device = f"cuda:{','.join(gpus)}" if gpus else "cpu"
        self._resources[slot.index] = replace(self._resources[slot.index], device=f"{device}@{hello['node']}", gpus=gpus)
        if wrong := disagreement(hello["versions"], f"Ray node {hello['node']}"):
            self._part(slot, wrong)
        else:
            slot.open = True
            slot.worker.start()

    def _cannot_start(self, slot: Slot, reason: str) -> None:
        self._part(slot, self._trouble(reason))

    def _part(self, slot: Slot, trouble: RunError) -> None:
        """No worker starts where the slot is. One bad node ends no search that others carry on: the slot rests, and then asks for
        a place again. It is the search's own trouble where no worker ever started, or no other is there and it will not end."""
        worker = slot.worker
        assert isinstance(worker, RayWorker)
        self._failures[slot.index] += 1
        failures, others = self._failures[slot.index], any(other.ready for other in self._slots if other is not slot)
        if not self._was_ready or (failures >= START_ATTEMPTS and not others):
            self._broken = self._broken or trouble
            return
        worker.pause = min(PAUSE_S * 2 ** (failures - 1), LONGEST_PAUSE_S)
        worker.lose(trouble.message)
        slot.failed_starts = 0
        node = f" on Ray node {worker.hello['node']}" if worker.hello else ""
        self._say(f"note: a worker is lost{node} and tried again in {worker.pause:g} s: {trouble}")

    def hello(self, slot: int) -> Mapping[str, Any]:
        """What the actor of a slot has told of its place: ``node``, ``pid``, ``gpus``, ``versions``; empty before that."""
        worker = self._slots[slot].worker
        assert isinstance(worker, RayWorker)
        return worker.hello

    def _watch(self, slot: Slot) -> None:
        if slot.index in self._resting:
            return
        worker = slot.worker
        assert isinstance(worker, RayWorker)
        if not worker.placed and not worker.lost:
            slot.heard = time.monotonic()  # It waits for a machine, which is no silence.
        super()._watch(slot)

    def _renew(self, slot: Slot) -> None:
        worker = slot.worker
        assert isinstance(worker, RayWorker)
        if not worker.lost:
            return worker.start()
        if worker.hopeless and not worker.placed:
            self._cannot_start(slot, worker.why_lost)
        worker.close()
        slot.open = False
        if worker.pause:
            self._resting[slot.index] = time.monotonic() + worker.pause
        else:
            slot.worker = self._spawn()

    def _release(self) -> None:
        self._selector.unregister(self._wake)
        self._wake.close()
        self._waker.close()
        self._refs.clear()
        self._disconnect()
