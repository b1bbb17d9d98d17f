"""Jobs that are no trials: second looks at the front, published networks beside it, final trainings."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nas.search.executors.base import Failed, FailureKind, Finished, Job, Progress
from nas.search.interrupt import on_interrupt
from nas.search.jobs import tried_again
from nas.search.loop import SearchLoop
from nas.search.study import Record
from nas.space.unparse import to_page


@dataclass(frozen=True, slots=True)
class Extra:
    """One of these jobs: what it is called, its network, what its payload says beside the search's own, and the files that it
    reads and writes."""

    name: str
    page: Mapping[str, Any]
    words: Mapping[str, Any]
    files: tuple[str, ...] = ()


Done = Callable[[Extra, Mapping[str, Any]], None]
"""Takes the result of a job."""


def page_of(loop: SearchLoop, record: Record) -> Mapping[str, Any]:
    """The page of a trial's architecture."""
    return to_page(loop.study.space.architecture(record.decisions).spec)


def run_extras(loop: SearchLoop, todo: Iterable[Extra], done: Done, *, share: float, seconds: float, what: str,
               measuring: bool = False) -> None:  # fmt: skip
    """Run jobs within a share of the budget and hand every result to ``done``; each is expected to take ``seconds``.

    ``measuring``: they are measurements, made one at a time where the search makes its own. What loses its worker or its machine
    is tried again like a candidate, from its checkpoint on. After an interrupt none is run.
    """
    if not loop.interrupted:
        _Extras(loop, todo, done, share, seconds, what, measuring).run()


class _Extras:
    """The jobs of one kind while they are run. They have numbers after the trials', by which their checkpoints are found."""

    def __init__(self, loop: SearchLoop, todo: Iterable[Extra], done: Done, share: float, seconds: float, what: str,
                 measuring: bool) -> None:  # fmt: skip
        self.loop, self.done, self.share, self.seconds, self.what, self.measuring = loop, done, share, seconds, what, measuring
        self.executor, self.bench = (loop.measurer if measuring else loop.executor), loop.bench
        self.waiting = deque(enumerate(todo, len(loop.study.records) + 1))
        self.running, self.seen = dict[int, Extra](), dict[int, str]()
        self.lost = defaultdict[int, Counter[FailureKind]](Counter)
        self.total, self.ended = len(self.waiting), 0

    def run(self) -> None:
        """Run them, until all are over, the budget is spent, or Ctrl-C."""
        loop, bench = self.loop, self.bench
        with on_interrupt(loop.interrupt):
            while (self.waiting or self.running) and not loop.interrupted:
                over = loop.meter.exhausted(self.share) is not None
                while not over and self._can_start():
                    self._start()
                if self.measuring and (awaited := bench.look()):
                    loop.ledger.log.warning("%s", awaited)
                if not self.running and (over or self._free or (self.measuring and bench.waiting)):
                    break
                if over:
                    for number in self.running:
                        self.executor.stop(number)
                loop.ledger.save_often()
                loop.tell(f"{self.what}: {self.ended} of {self.total}",
                          "; ".join(self.seen[number] for number in self.running if number in self.seen))  # fmt: skip
                for event in self.executor.poll(0.2):
                    if event.trial in self.running and isinstance(event, Progress) and event.values:
                        self.seen[event.trial] = _progress(self.running[event.trial], event.values)
                    elif event.trial in self.running and isinstance(event, Finished | Failed):
                        self._hear(event, over)
        self._leave()
        loop.ledger.save()
        loop.tell("")

    @property
    def _free(self) -> int:
        return self.bench.free if self.measuring else self.executor.free

    def _can_start(self) -> bool:
        if not (self.waiting and self._free and len(self.running) < (1 if self.measuring else self.total)):
            return False
        held = self.executor.largest
        begun = self.waiting[0][0] in self.lost  # it needs less than a whole one
        return begun or self.loop.meter.can_start(self.seconds, held.kind, held.fraction, share=self.share,
                                                  open_trials=len(self.running))  # fmt: skip

    def _start(self) -> None:
        loop, (number, extra) = self.loop, self.waiting.popleft()
        checkpoint = str(loop.folder.checkpoint_of(number))
        job = Job(trial=number, timeout=loop.timeout, files=(checkpoint, *extra.files),
                  needs=self.bench.needs if self.measuring else None,
                  payload={**loop.payload, "page": dict(extra.page), "weights": "", "checkpoint": checkpoint, **extra.words})
        held = self.executor.resources[self.executor.submit(job)]
        loop.meter.begin(number, held.kind, held.fraction, expected=self.seconds)
        self.running[number] = extra

    def _hear(self, end: Finished | Failed, over: bool) -> None:
        loop, number = self.loop, end.trial
        extra = self.running.pop(number)
        loop.meter.end(number)
        if isinstance(end, Failed) and not over and tried_again(self.lost[number], end):
            loop.ledger.log.warning("%s: %s: %s; it is tried once more", self.what, extra.name, end.reason)
            return self.waiting.appendleft((number, extra))
        self.ended += 1
        loop.folder.drop_checkpoint(number)
        if isinstance(end, Failed):
            return loop.ledger.remark(f"{self.what}: {extra.name} failed: {end.reason}")
        self.done(extra, end.result)
        loop.ledger.save_checks()

    def _leave(self) -> None:
        """Tell what was not done, and why."""
        loop = self.loop
        if loop.interrupted:
            loop.message = f"interrupted ({self.what}: {self.ended} of {self.total}): everything finished is saved"
            loop.close()
            for number in self.running:
                loop.meter.end(number)
        elif self.waiting:
            tell = loop.ledger.log.warning if self.ended and self.waiting[0][0] not in self.lost else loop.ledger.remark
            gone = self.measuring and not self.bench.there
            why = f"no worker has {self.bench.needs} for" if gone else "the budget had no room for"
            tell(f"{self.what}: {why} {len(self.waiting)} of {self.total}")
            for number, _ in self.waiting:
                loop.folder.drop_checkpoint(number)


def _progress(extra: Extra, values: Mapping[str, Any]) -> str:
    """How far a job is: epochs as far as they are known, the accuracy of the latest."""
    epochs = f" of {values['epochs']}" if "epochs" in values else ""
    epoch = [f"epoch {values['epoch']}{epochs}"] if "epoch" in values else []
    accuracy = [f"{value:.2%}" for name, value in values.get("metrics", {}).items() if name == "accuracy"]
    return f"{extra.name}: {', '.join([*epoch, *accuracy]) or 'begun'}"
