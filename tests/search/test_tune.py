"""Our strategies inside somebody else's Tuner, seen through the interface that Tune uses."""

import json
import random

import pytest

from nas.errors import RunError, UsageError
from nas.search.tune import NasSearcher
from tests.search.spaces import SPACES, space


def searcher(name: str, **words: object) -> NasSearcher:
    return NasSearcher(space(name), metric="accuracy", mode="max", **words)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("strategy", ["random", "regularized_evolution", "tpe"])
def test_it_suggests_architectures_of_the_space(name, strategy):
    search = searcher(name, strategy=strategy, seed=1)
    for number in range(15):
        config = json.loads(json.dumps(search.suggest(f"t{number}")))  # Tune keeps configs as JSON
        architecture = space(name).architecture(config["architecture"])
        assert dict(architecture.decisions) == config["architecture"], "the active decisions and no other"
        search.on_trial_complete(f"t{number}", {"accuracy": random.Random(number).random()}, error=number == 3)
    states = [trial.state.name for trial in search._study.trials]
    assert states == ["COMPLETE"] * 3 + ["FAIL"] + ["COMPLETE"] * 11


def test_a_restored_searcher_goes_on_as_if_nothing_had_happened(tmp_path):
    name = "conditional"
    one = searcher(name, seed=5)
    for number in range(12):
        one.suggest(f"t{number}")
        if number != 10:
            one.on_trial_complete(f"t{number}", {"accuracy": number / 12})
    one.save(str(tmp_path / "state"))
    other = searcher(name, seed=5)
    other.restore(str(tmp_path / "state"))
    for each in (one, other):
        each.on_trial_complete("t10", {"accuracy": 0.4})
    assert one.suggest("next") == other.suggest("next")
    assert [trial.values for trial in one._study.trials] == [trial.values for trial in other._study.trials]


FOREIGN = '{"mode": "max", "metric": "a", "numbers": {}, "trials": [["COMPLETE", {"x": 1}, [1]]]}'


@pytest.mark.parametrize("text", ["", "{}", "[]", FOREIGN])
def test_a_damaged_state_is_told(tmp_path, text):
    (tmp_path / "state").write_text(text)
    with pytest.raises(RunError, match="cannot be read"):
        searcher("conditional").restore(str(tmp_path / "state"))


def test_metric_and_mode_may_be_the_tuners():
    search = NasSearcher(space("conditional"))
    with pytest.raises(UsageError, match="metric and a mode are missing"):
        search.suggest("t0")
    assert not search.set_search_properties(None, None, {})
    assert search.set_search_properties("accuracy", "min", {})
    assert not search.set_search_properties("accuracy", "max", {})
    search.suggest("t0")
    search.on_trial_complete("t0", {"accuracy": float("nan")})
    search.on_trial_complete("never suggested", {"accuracy": 1.0})
    assert [trial.state.name for trial in search._study.trials] == ["FAIL"]


def test_several_metrics_are_refused():
    with pytest.raises(UsageError, match="one metric"):
        NasSearcher(space("conditional"), metric=["accuracy", "latency"], mode=["max", "min"])
