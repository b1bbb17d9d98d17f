"""What a budget amounts to on this machine."""

from __future__ import annotations

import pytest

from nas.errors import UsageError
from nas.search.budget import parse_budget
from nas.search.config import SearchConfig
from nas.search.forecast import check_spent, cores, device_for, expected_trials, held_by, time_left
from tests.search.fakes import settled


def test_hours_of_devices_that_are_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match=r"budget=100gpuh asks for a GPU.*budget=100cpuh"):
        device_for(parse_budget("100gpuh,24h"))
    assert device_for(parse_budget("2cpuh")) == "cpu"


@pytest.mark.parametrize(("budget", "gpus_per_trial", "device"), [
    ("10min", None, "cuda"), ("100gpuh", None, "cuda"), ("2cpuh", None, "cpu"), ("2cpuh,1h", None, "cpu"),
    ("2cpuh,1gpuh", None, "cuda"), ("10min", 0.0, "cpu"), ("100gpuh", 0.0, "cpu"), ("2cpuh", 0.5, "cuda"),
])  # fmt: skip
def test_trials_are_where_the_budget_is_spent(monkeypatch, budget, gpus_per_trial, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert device_for(parse_budget(budget), gpus_per_trial) == device


@pytest.mark.parametrize(("budget", "device"), [("100gpuh", "cpu"), ("2cpuh", "cuda")])
def test_a_budget_that_trials_never_spend_is_refused(budget, device):
    with pytest.raises(UsageError, match="would never be spent"):
        check_spent(parse_budget(budget), device)
    for bounded in ("1h", "20trials"):
        check_spent(parse_budget(f"{budget},{bounded}"), device)
    check_spent(parse_budget("2cpuh,2gpuh"), device)


def test_device_hours_as_wall_time():
    assert time_left(parse_budget("2cpuh"), "cpu", 2.0) == 3600
    assert time_left(parse_budget("100gpuh,24h"), "cuda", 2.0) == 24 * 3600
    assert time_left(parse_budget("10gpuh,24h"), "cuda", 2.0) == 5 * 3600
    assert time_left(parse_budget("10gpuh,24h"), "cuda", 1.0) == 10 * 3600
    assert time_left(parse_budget("50trials"), "cpu", 2.0) is None
    plan = settled().plan  # two epochs of a second each
    assert expected_trials(parse_budget("50trials"), plan, "cpu", 2, 2.0) == 50
    assert expected_trials(parse_budget("40s"), plan, "cpu", 2, 2.0) == 20
    assert expected_trials(parse_budget("40s,5trials"), plan, "cpu", 2, 2.0) == 5
    assert expected_trials(parse_budget("40cpusec"), plan, "cpu", 2, 2.0) == 10


@pytest.mark.parametrize(("words", "device", "workers", "held"), [
    ({"gpus_per_trial": 0.5}, "cuda", 4, 2.0), ({}, "cuda", 4, 4.0), ({"gpus_per_trial": 2.0}, "cuda", 4, 8.0),
    ({"engine": "ray"}, "cpu", 64, 64.0), ({"engine": "ray", "cpus_per_trial": 2.0}, "cpu", 64, 128.0),
    ({"endpoint": "127.0.0.1:0"}, "cpu", 64, 64.0), ({}, "cpu", 1, 1.0), ({}, "cpu", 1000, float(cores())),
])  # fmt: skip
def test_what_workers_hold_together(words, device, workers, held):
    assert held_by(SearchConfig(space="nasnet_cell", data="digits", budget="1h", **words), device, workers) == held
