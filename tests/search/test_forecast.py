"""What a budget amounts to on this machine."""

from __future__ import annotations

import pytest

from nas.errors import UsageError
from nas.search.budget import parse_budget
from nas.search.forecast import cores, device_for, expected_trials, time_left
from tests.search.fakes import settled


def test_hours_of_devices_that_are_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match=r"budget=100gpuh asks for a GPU.*budget=100cpuh"):
        device_for(parse_budget("100gpuh,24h"))
    assert device_for(parse_budget("2cpuh")) == "cpu"


def test_device_hours_as_wall_time():
    assert time_left(parse_budget("2cpuh"), "cpu", 1) == 7200 / cores()
    assert time_left(parse_budget("100gpuh,24h"), "cuda", 2) == 24 * 3600
    assert time_left(parse_budget("10gpuh,24h"), "cuda", 2) == 5 * 3600
    assert time_left(parse_budget("50trials"), "cpu", 2) is None
    plan = settled().plan  # two epochs of a second each
    assert expected_trials(parse_budget("50trials"), plan, "cpu", 2) == 50
    assert expected_trials(parse_budget("40s"), plan, "cpu", 2) == 20
    assert expected_trials(parse_budget("40s,5trials"), plan, "cpu", 2) == 5
