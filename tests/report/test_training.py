from __future__ import annotations

import io

import pytest

from nas.report.training import Lines, training_view
from nas.train import EpochResult


def epoch(number: int) -> EpochResult:
    return EpochResult(epoch=number, train_loss=1.5, val_accuracy=0.25, val_loss=1.0, seconds=2.0, images_per_s=10.0)


def test_lines_are_few_and_the_first_and_last_are_told() -> None:
    stream, now = io.StringIO(), 0.0
    lines = Lines(stream, clock=lambda: now)
    for number in range(10):
        lines(epoch(number), 10)
        now += 2.0
    told = [line.split(":")[0] for line in stream.getvalue().splitlines()]
    assert told == ["epoch 1 of 10", "epoch 4 of 10", "epoch 7 of 10", "epoch 10 of 10"]
    assert "loss 1.5, validation 25.00 %, 2 s" in stream.getvalue()


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with training_view(stream) as show:
        show(epoch(2), 10)
    assert "3/10" in stream.getvalue()
    assert "25.00 %" in stream.getvalue()


def test_elsewhere_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    stream = io.StringIO()
    with training_view(stream) as show:
        show(epoch(0), 1)
    assert stream.getvalue().startswith("epoch 1 of 1")
