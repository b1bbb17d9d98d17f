"""After the search: the front is measured again, alone, and its best are trained again with other seeds.

What a search reports as best was picked among many noisy figures, so it is likely to have been lucky. These second looks
belong to the budget (its ``repeats`` share), and are kept with the study, not as trials of it.
"""

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

MEASURED, TRAINED, SEEDS = 30, 3, 4
"""Members that are measured again at most; most accurate members that are trained again, with so many other seeds at most."""


@dataclass(frozen=True, slots=True)
class Extra:
    """A job that is no trial: what it is called, its network, what its payload says beside the search's own, and the files
    that it reads and writes."""

    name: str
    page: Mapping[str, Any]
    words: Mapping[str, Any]
    files: tuple[str, ...] = ()


def confirm(loop: SearchLoop) -> None:
    """Measure and train the front again, as far as its share of the budget goes. Ends early on Ctrl-C."""
    checks, share = loop.ledger.front.checks, loop.rules.shares.before_final
    if timed(loop):
        todo = [Extra(str(r.number), page_of(loop, r), {"stage": {"do": "measure"}})
                for r in loop.ledger.front.members[:MEASURED] if r.number not in checks.again]  # fmt: skip

        def measured(extra: Extra, result: Mapping[str, Any]) -> None:
            if "metrics" in result:
                loop.bench.note(result)
                checks.again[int(extra.name)] = {
                    "median_ms": result["metrics"]["latency"], "low_ms": result["latency_low_ms"],
                    "high_ms": result["latency_high_ms"]}  # fmt: skip

        run_jobs(loop, todo, measured, measuring=True, share=share, seconds=one_measurement(loop), what="front measured again")

    def trained(extra: Extra, result: Mapping[str, Any]) -> None:
        if not result.get("stopped"):
            loop.meter.count()
            checks.repeats.setdefault(int(extra.name), []).append(result["metrics"]["accuracy"])

    todo = list(_repeats(loop, loop.ledger.front.kept[:TRAINED]))
    run_jobs(loop, todo, trained, share=share, seconds=full_training(loop), what="best trained again")
    loop.ledger.write_front()


def _repeats(loop: SearchLoop, members: Iterable[Record]) -> Iterable[Extra]:
    """Every member once before any twice."""
    done = loop.ledger.front.checks.repeats
    epochs = loop.plan.recipe.epochs
    for turn in range(1, SEEDS + 1):
        for record in members:
            if len(done.get(record.number, [])) < turn:
                stage = {"do": "train", "epochs": epochs}
                words = {"stage": stage, "seed": loop.payload["seed"] + turn}
                yield Extra(str(record.number), page_of(loop, record), words)


def full_training(loop: SearchLoop) -> float:
    """Seconds that a whole training takes: the longest of the front's, or the plan's estimate."""
    known = [r.attrs["seconds"] for r in loop.ledger.front.members if "seconds" in r.attrs]
    return max(known, default=loop.plan.epoch_s * loop.plan.recipe.epochs)


def timed(loop: SearchLoop) -> bool:
    """Whether the search measures latency."""
    return "latency" in (loop.payload["measure"] or {"metrics": ()})["metrics"]


def one_measurement(loop: SearchLoop) -> float:
    """Seconds that a measurement takes: the longest of the front's."""
    return max((r.attrs["measure_s"] for r in loop.ledger.front.members if "measure_s" in r.attrs), default=1.0)


def run_jobs(loop: SearchLoop, todo: Iterable[Extra], done: Callable[[Extra, Mapping[str, Any]], None], *, share: float,
             seconds: float, what: str, measuring: bool = False) -> None:  # fmt: skip
    """Run jobs within a share of the budget and hand every result to ``done``; each is expected to take ``seconds``.

    ``measuring``: they are measurements, made one at a time where the search makes its own. What loses its worker or its machine
    is tried again like a candidate, from its checkpoint on.
    """
    executor, bench, log = (loop.measurer if measuring else loop.executor), loop.bench, loop.ledger.log
    waiting, running, seen = deque(enumerate(todo, len(loop.study.records) + 1)), dict[int, Extra](), dict[int, str]()
    lost = defaultdict[int, Counter[FailureKind]](Counter)
    total, ended = len(waiting), 0
    largest = executor.largest

    def free() -> int:
        return bench.free if measuring else executor.free

    with on_interrupt(loop.interrupt):
        while (waiting or running) and not loop.interrupted:
            over = loop.meter.exhausted(share) is not None
            while (waiting and not over and free() and len(running) < (1 if measuring else total)
                   and (waiting[0][0] in lost  # it has begun, and needs less than a whole one
                        or loop.meter.can_start(seconds, largest.kind, largest.fraction, share=share,
                                                open_trials=len(running)))):  # fmt: skip
                number, extra = waiting.popleft()
                running[number] = extra
                needs = bench.needs if measuring else None
                held = executor.resources[executor.submit(_job(loop, number, extra, needs))]
                loop.meter.begin(number, held.kind, held.fraction, expected=seconds)
            if measuring and (awaited := bench.look()):
                log.warning("%s", awaited)
            if not running and (over or free() or (measuring and bench.waiting)):
                break
            if over:
                for trial in running:
                    executor.stop(trial)
            loop.ledger.save_often()
            loop.tell(f"{what}: {ended} of {total}", "; ".join(seen[trial] for trial in running if trial in seen))
            for event in executor.poll(0.2):
                if event.trial in running and isinstance(event, Progress) and event.values:
                    seen[event.trial] = _progress(running[event.trial], event.values)
                elif event.trial in running and isinstance(event, Finished | Failed):
                    extra = running.pop(event.trial)
                    loop.meter.end(event.trial)
                    if isinstance(event, Failed) and not over and tried_again(lost[event.trial], event):
                        log.warning("%s: %s: %s; it is tried once more", what, extra.name, event.reason)
                        waiting.appendleft((event.trial, extra))  # under its number, so that it finds its checkpoint
                        continue
                    ended += 1
                    loop.folder.drop_checkpoint(event.trial)
                    if isinstance(event, Finished):
                        done(extra, event.result)
                        loop.ledger.save_checks()
                    else:
                        loop.ledger.remark(f"{what}: {extra.name} failed: {event.reason}")
    if waiting and not loop.interrupted:
        tell = log.warning if ended and waiting[0][0] not in lost else loop.ledger.remark
        gone = measuring and not bench.there
        why = f"no worker has {bench.needs} for" if gone else "the budget had no room for"
        tell(f"{what}: {why} {len(waiting)} of {total}")
        for number, _ in waiting:
            loop.folder.drop_checkpoint(number)
    if loop.interrupted:
        loop.message = f"interrupted ({what}: {ended} of {total}): everything finished is saved"
        loop.close()
        for number in running:
            loop.meter.end(number)
    loop.ledger.save()
    loop.tell("")


def _progress(extra: Extra, values: Mapping[str, Any]) -> str:
    """How far a job is: epochs as far as they are known, the accuracy of the latest."""
    epochs = f" of {values['epochs']}" if "epochs" in values else ""
    epoch = [f"epoch {values['epoch']}{epochs}"] if "epoch" in values else []
    accuracy = [f"{value:.2%}" for name, value in values.get("metrics", {}).items() if name == "accuracy"]
    return f"{extra.name}: {', '.join([*epoch, *accuracy]) or 'begun'}"


def page_of(loop: SearchLoop, record: Record) -> Mapping[str, Any]:
    """The page of a trial's architecture."""
    return to_page(loop.study.space.architecture(record.decisions).spec)


def _job(loop: SearchLoop, number: int, extra: Extra, needs: str | None) -> Job:
    checkpoint = str(loop.folder.checkpoint_of(number))
    return Job(trial=number, timeout=loop.timeout, files=(checkpoint, *extra.files), needs=needs,
               payload={**loop.payload, "page": dict(extra.page), "weights": "", "checkpoint": checkpoint, **extra.words})
