"""A search while it runs, as a terminal and as a log see it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from nas.net.graph import Size
from nas.net.lower import lower
from nas.report.live import LINE_EVERY_S, QUIET_S, _Lines, panel, summary_line, view
from nas.search.candidate import Candidate, Status
from nas.search.study import Record
from tests.search.fakes import MANY, Clock, space_of


def record(number: int, **metrics: float) -> Record:
    return Record(number=number, decisions={}, state="completed", metrics=metrics)


def status(**words: Any) -> Status:
    front = (record(3, accuracy=0.9, latency=1.25, num_params=1500, macs=2e6),
             record(1, accuracy=0.8, latency=1.0, num_params=900, macs=1e6))  # fmt: skip
    given = {"elapsed_s": 61.0, "budget": [{"asked": 3.0, "spent": 1.0, "unit": "min"}], "counts": {"completed": 4, "failed": 1},
             "running": (), "front": front, "best": front[0], "epochs": 10, "message": ""}  # fmt: skip
    return Status(**{**given, **words})


def shown(what: Any) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(what)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_line_says_budget_counts_and_best():
    assert summary_line(status()) == "1 of 3min | 4 completed, 1 failed | best 90.00 % at 1.25 ms"
    assert summary_line(status(expected=12)) == "1 of 3min | 4 completed, 1 failed, about 12 in all | best 90.00 % at 1.25 ms"
    assert summary_line(status(message="over")).endswith(" | over")
    assert "best" not in summary_line(status(front=(), best=None))
    assert summary_line(status(best=record(0, accuracy=0.5))).endswith("best 50.00 %")


def test_lines_come_when_something_happened_and_not_too_often():
    stream, clock = io.StringIO(), Clock()
    lines = _Lines(stream, clock)

    def told(seconds: float, **words: Any) -> bool:
        before = stream.tell()
        clock.now += seconds
        lines(status(**words))
        return stream.tell() > before

    assert not told(1.0)
    assert told(LINE_EVERY_S)
    assert not told(LINE_EVERY_S)  # nothing has ended since
    assert told(1.0, counts={"completed": 5})
    assert not told(1.0, counts={"completed": 6})
    assert told(QUIET_S, counts={"completed": 6})
    assert told(0.0, counts={"completed": 6}, message="the budget is spent")
    assert not told(0.0, counts={"completed": 6}, message="the budget is spent")


def test_the_panel_shows_what_runs_and_the_front():
    import random

    architecture = space_of(MANY).sample(random.Random(0))
    graph = lower(architecture, Size(input=(1, 8, 8), num_classes=10))
    running = Candidate(record=Record(number=7, decisions={}), architecture=architecture, graph=graph, phase="training", epoch=4,
                        metrics={"accuracy": 0.5, "latency": 0.75})  # fmt: skip
    text = shown(panel(status(running=(running,))))
    for word in ("1 of 3min", "4 completed", "training", "4/10", "50.00 %", "0.75 ms", "90.00 %", "1.25 ms", "1.5K", "Ctrl-C"):
        assert word in text
    assert "the end" in shown(panel(status(message="the end")))


def test_a_long_front_is_cut():
    front = tuple(record(n, accuracy=0.5) for n in range(20))
    assert "... and 12 more" in shown(panel(status(front=front)))


def test_no_terminal_gets_lines():
    stream = io.StringIO()
    with view(stream) as show:
        show(status(message="done"))
    assert stream.getvalue() == summary_line(status(message="done")) + "\n"


def test_a_terminal_gets_a_panel(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    with view(stream) as show:
        show(status(message="done"))
    assert "done" in stream.getvalue()
