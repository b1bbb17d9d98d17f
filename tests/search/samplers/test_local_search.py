"""Local search goes where hill climbing goes, alone and with several workers."""

import itertools

import optuna
import pytest
from optuna.trial import TrialState

from nas.search.samplers import LocalSearchSampler
from nas.search.samplers.local_search import START
from nas.search.samplers.past import key_of
from nas.space.parse import parse_text
from nas.space.search_space import SearchSpace
from tests.search.spaces import space as known_space

LINE = """
name: line
network:
""" + "\n".join(
    f"  - {{name: l{i}, op: relu_conv_bn, out_channels: 8, kernel_size: {{choice: [1, 3, 5, 7]}}}}" for i in range(5)
) + """
  - global_avg_pool
  - classifier
"""


@pytest.fixture
def line():
    return SearchSpace(parse_text(LINE))


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def total(decisions):
    return float(sum(decisions.values()))


def starts(study):
    return [trial.number for trial in study.trials if START in trial.system_attrs]


def test_one_worker_tries_all_neighbours_of_the_best_and_starts_anew_on_top(line):
    study = optuna.create_study(direction="maximize", sampler=LocalSearchSampler(line, seed=0))
    study.optimize(lambda trial: total(line.suggest(trial).decisions), n_trials=120)
    trials, restart = study.trials, starts(study)[1]
    centre, near = trials[0], 0
    for trial in trials[1:restart]:
        if sum(trial.params[key] != centre.params[key] for key in centre.params) != 1:
            assert near <= 15
            centre = max(trials[: trial.number], key=lambda other: other.value)
        near = sum(sum(t.params[k] != centre.params[k] for k in centre.params) == 1 for t in trials[: trial.number + 1])
        assert sum(trial.params[key] != centre.params[key] for key in centre.params) == 1
    assert study.best_value == 35.0  # no traps: the first climb ends on the top
    assert trials[restart - 1].number >= study.best_trial.number
    assert len({key_of(trial.params) for trial in trials}) == 120


def test_workers_climb_side_by_side_and_never_wait(line):
    study = optuna.create_study(direction="maximize", sampler=LocalSearchSampler(line, seed=0))
    running = [study.ask() for _ in range(6)]
    architectures = {trial.number: line.suggest(trial).decisions for trial in running}
    assert starts(study) == list(range(6))
    for _ in range(150):
        trial = running.pop(0)
        study.tell(trial, total(architectures[trial.number]))
        running.append(study.ask())
        architectures[running[-1].number] = line.suggest(running[-1]).decisions
    assert study.best_value == 35.0
    assert len({key_of(decisions) for decisions in architectures.values()}) == len(architectures)


def test_a_failed_neighbour_ends_no_climb(line):
    study = optuna.create_study(direction="maximize", sampler=LocalSearchSampler(line, seed=1))

    def objective(trial):
        decisions = line.suggest(trial).decisions
        if total(decisions) % 5 == 0:
            raise RuntimeError("out of memory")
        return total(decisions)

    study.optimize(objective, n_trials=100, catch=(RuntimeError,))
    assert study.best_value >= 33.0
    assert sum(trial.state == TrialState.FAIL for trial in study.trials) > 5


def test_a_climb_of_two_objectives_finds_the_whole_front(line):
    def both(trial):
        decisions = line.suggest(trial).decisions
        return total(decisions), sum(value > 1 for value in decisions.values())

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=LocalSearchSampler(line, seed=2))
    study.optimize(both, n_trials=200)
    best = {tuple(trial.values) for trial in study.best_trials}
    assert best == {(5.0 + 6.0 * count, float(count)) for count in range(6)}


def test_neighbours_differ_in_one_decision_and_what_hangs_on_it():
    page = known_space("conditional")
    sampler = LocalSearchSampler(page, seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: float(len(page.suggest(trial).decisions)), n_trials=1)
    around = sampler.around(study.trials[0])
    own = study.trials[0].params
    for _, decisions in around:
        assert page.architecture(decisions).decisions == decisions
        assert sum(own[key] != decisions[key] for key in own.keys() & decisions.keys()) == 1
    assert len(dict(around)) == len(around)
    assert all(key_of(a) != key_of(b) for (_, a), (_, b) in itertools.pairwise(around))
