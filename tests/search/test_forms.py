"""Objectives that are products: what they are worth, how they are written, and what is told of those that cannot be."""

import json
import math

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.search.config import SearchConfig
from nas.search.forms import Factor, parse_product
from nas.search.front import best_of, front_row, sorted_front
from nas.search.metrics import METRICS
from nas.search.objectives import Objective, front, judged_by, parse_constraint, parse_objectives
from nas.search.samplers import RandomSampler
from nas.search.storage import open_storage
from nas.search.study import SearchStudy
from tests.search.spaces import space

SOFT = "accuracy*(latency/3ms)^-0.07"
HARD = "accuracy*max(1,latency/3ms)^-1"
V2 = "accuracy*(latency/3ms)^-0.07*(num_params/5M)^-0.05"


@pytest.mark.parametrize(("text", "metrics", "value"), [
    (SOFT, {"accuracy": 0.8, "latency": 3.0}, 0.8), (SOFT, {"accuracy": 0.8, "latency": 6.0}, 0.8 * 2**-0.07),
    (HARD, {"accuracy": 0.8, "latency": 1.0}, 0.8), (HARD, {"accuracy": 0.8, "latency": 6.0}, 0.4),
    (V2, {"accuracy": 0.8, "latency": 1.5, "num_params": 1e7}, 0.8 * 0.5**-0.07 * 2**-0.05),
    ("accuracy^2 * latency ^ -1", {"accuracy": 0.5, "latency": 2.0}, 0.125),
    ("(throughput/1K)^.5", {"throughput": 4000.0}, 2.0), ("energy^-1", {"energy": 0.25}, 4.0),
])  # fmt: skip
def test_a_product_is_worth_what_the_papers_say(text, metrics, value):
    [objective] = parse_objectives(text)
    assert objective.value(metrics) == pytest.approx(value)
    assert objective.loss(metrics) == -objective.value(metrics)
    assert (objective.direction, set(objective.metrics)) == ("maximize", set(metrics))


def test_doubling_the_latency_costs_five_percent():
    [objective] = parse_objectives(SOFT)
    assert objective.value({"accuracy": 1.0, "latency": 6.0}) == pytest.approx(1 / 1.05, abs=0.001)


names = st.sampled_from(sorted(METRICS))
sizes = st.floats(1e-6, 1.0) | st.integers(1, 10**9).map(float)
exponents = st.integers(1, 400).map(lambda n: n / 100)


@st.composite
def factors(draw):
    name, exponent = draw(names), draw(exponents)
    limit = draw(st.none() | sizes)
    limit = min(limit, 1.0) if limit and name == "accuracy" else limit
    sign = 1 if METRICS[name].direction == "maximize" else -1
    return Factor(name, limit, limit is not None and draw(st.booleans()), sign * exponent)


@given(st.lists(factors(), min_size=1, max_size=4))
def test_a_product_written_out_reads_back_as_the_same(product):
    text = "*".join(map(str, product))
    assert parse_product(text) == tuple(product)
    [objective] = parse_objectives(text)
    assert parse_objectives(str(objective)) == (objective,)


def test_products_stand_beside_metrics_in_a_list():
    found = parse_objectives(f" {HARD} , num_params,accuracy * ( latency / 3000us ) ^ -0.07")
    assert [str(o) for o in found] == [HARD, "num_params", SOFT]
    assert judged_by(found, [parse_constraint("macs<=1M")]) == {"accuracy", "latency", "num_params", "macs"}


def test_a_metric_with_nothing_to_it_is_the_metric():
    assert parse_objectives("accuracy") == (Objective("accuracy"),)
    assert [parse_objectives(text)[0].direction for text in ("latency", "latency^-1")] == ["minimize", "maximize"]


@pytest.mark.parametrize(("text", "said"), [
    ("accuracy*(latncy/3ms)^-0.07", "character 11 of accuracy*(latncy/3ms)^-0.07: unknown metric"),
    ("accuracy*(latncy/3ms)^-0.07", "Did you mean 'latency'?"), ("accuracy*", "character 10"), ("accuracy*", "got 'the end'"),
    ("accuracy*(latency/3ms", "a closing bracket"), ("accuracy*(latency/3kg)^-1", "character 19"),
    ("accuracy*(latency/3kg)^-1", "not a value of latency"), ("accuracy*(latency)^-1", "/ and a limit such as 3ms"),
    ("accuracy*(latency/0ms)^-1", "more than 0"), ("accuracy*max(2,latency/3ms)^-1", "max(1,METRIC/LIMIT)"),
    ("accuracy*latency^", "an exponent such as -0.07"), ("accuracy*latency^-0.07x", "an exponent such as -0.07"),
    ("accuracy*(latency/3ms)^0.07", "an exponent below 0, such as ^-0.07"), ("accuracy*(latency/3ms)", "below 0, such as ^-1"),
    ("accuracy^-1", "above 0"), ("accuracy^0", "above 0"), ("accuracy+latency", "* and another factor"),
    ("__import__('os')", "character 1"), (f"{SOFT},{SOFT}", "named twice"), ("2*accuracy", "METRIC, (METRIC/LIMIT)"),
    ("(accuracy/90)^2", "fraction"),
])  # fmt: skip
def test_products_that_cannot_be_are_told(text, said):
    with pytest.raises(UsageError) as error:
        parse_objectives(text)
    assert said in str(error.value)


@given(st.text(alphabet="accurylten*^()/,1-.m ", max_size=40))
def test_any_text_is_an_objective_or_a_usage_error(text):
    try:
        found = parse_objectives(text)
    except UsageError:
        return
    assert parse_objectives(",".join(map(str, found))) == found


@pytest.mark.parametrize(("metrics", "value"), [
    ({"accuracy": 0.5}, math.nan), ({"accuracy": 0.5, "latency": 0.0}, math.inf), ({"accuracy": 0.5, "latency": -1.0}, math.nan),
    ({"accuracy": 0.5, "latency": math.nan}, math.nan), ({"accuracy": 0.5, "latency": math.inf}, 0.0),
])  # fmt: skip
def test_what_has_no_value_raises_nothing(metrics, value):
    assert parse_objectives(SOFT)[0].value(metrics) == pytest.approx(value, nan_ok=True)


@given(st.floats(), st.floats())
def test_numbers_of_any_size_raise_nothing(accuracy, latency):
    for text in (SOFT, HARD, "accuracy^3*latency^-4"):
        assert isinstance(parse_objectives(text)[0].value({"accuracy": accuracy, "latency": latency}), float)


def test_a_hard_limit_is_not_passed_by_what_is_unknown():
    assert math.isnan(parse_objectives(HARD)[0].value({"accuracy": 0.9, "latency": math.nan}))


def test_a_study_keeps_a_product_by_its_text_and_reads_it_back(tmp_path):
    objectives = parse_objectives(f"{SOFT},num_params")
    path = str(tmp_path / "journal.jsonl")
    with open_storage(path) as storage:
        study = SearchStudy(storage, space("conditional"), objectives)
        sampler = RandomSampler(space("conditional"), seed=0)
        done, broken = study.ask(sampler)[0], study.ask(sampler)[0]
        study.tell(done.number, "completed", metrics={"accuracy": 0.8, "latency": 6.0, "num_params": 10.0})
        study.tell(broken.number, "completed", metrics={"accuracy": 0.8, "num_params": 10.0})
        twin = study.add(study.draft(sampler), "duplicate", duplicate_of=done.number)
    with open_storage(path) as storage:
        again = SearchStudy(storage, space("conditional"), parse_objectives(f"{SOFT},num_params"))
        assert again.optuna.metric_names == [SOFT, "num_params"]
        values = [pytest.approx(0.8 * 2**-0.07), 10.0]
        assert [trial.values for trial in again.optuna.trials] == [values, None, values]
    assert again.records[0].metrics[SOFT] == pytest.approx(0.8 * 2**-0.07) == twin.metrics[SOFT]
    assert again.records[1].state == "failed"
    assert SOFT in (again.records[1].reason or "")
    assert json.loads(json.dumps(front_row(again.records[0], None)))[SOFT] == pytest.approx(0.8 * 2**-0.07)


def test_another_programs_trial_has_its_product_by_name(tmp_path):
    objectives = parse_objectives(SOFT)
    with open_storage(str(tmp_path / "journal.jsonl")) as storage:
        study = SearchStudy(storage, space("conditional"), objectives)
        study.optuna.add_trial(optuna.trial.create_trial(value=0.75))
        again = SearchStudy(storage, space("conditional"), objectives)
    assert objectives[0].value(again.records[0].metrics) == 0.75


def test_the_best_is_the_best_product_and_not_the_most_accurate(tmp_path):
    [objective] = objectives = parse_objectives(HARD)
    with open_storage(str(tmp_path / "journal.jsonl")) as storage:
        study = SearchStudy(storage, space("conditional"), objectives)
        for accuracy, latency in ((0.9, 30.0), (0.8, 2.0), (0.7, 1.0)):
            record, _ = study.ask(RandomSampler(space("conditional"), seed=0))
            study.tell(record.number, "completed", metrics={"accuracy": accuracy, "latency": latency})
    best = best_of(study.records, objectives)
    assert best is study.records[1]
    assert sorted_front(study.records, objectives)[-1] is study.records[0]
    assert front([record.metrics for record in study.records], objectives) == [1]
    assert objective.value(best.metrics) == 0.8


def test_a_search_may_be_for_a_product():
    words = {"space": "nasnet_cell", "data": "digits", "budget": "5trials"}
    config = SearchConfig.from_words({**words, "objectives": SOFT})
    assert SearchConfig.from_words(config.to_mapping()) == config
    with pytest.raises(UsageError, match="Did you mean 'energy'"):
        SearchConfig.from_words({**words, "objectives": "accuracy*energi^-1"})
