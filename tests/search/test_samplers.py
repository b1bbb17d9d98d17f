"""What every strategy has to do, run over all of them; Optuna's own contract tests first."""

import random
import subprocess
import sys
import warnings

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase, RelativeSamplerTestCase

from nas.errors import UsageError
from nas.search.budget import Budget, parse_budget
from nas.search.keys import KEYS
from nas.search.samplers import (
    STRATEGIES,
    NSGAIISampler,
    RegularizedEvolutionSampler,
    TPESampler,
    choose_strategy,
    distributions,
)
from nas.search.samplers.base import distribution, draw_from, snap
from nas.search.vary import redraw
from nas.space.parse import parse_text
from nas.space.search_space import SearchSpace, draw, valid
from nas.space.spec import Range
from tests.search.spaces import PAGES, SPACES, space

SMALL = {
    "random": {}, "regularized_evolution": {"population": 5, "sample": 3}, "tpe": {"startup": 5},
    "non_aging_evolution": {"population": 5, "sample": 3}, "hierarchical_evolution": {"population": 5, "mutations": 50},
    "pnas": {"keep": 4, "steps": 4, "pool": 40}, "nao": {"first": 5, "each": 4, "best": 3, "steps": 4},
    "local_search": {}, "rl": {"batch": 3, "hidden": 8, "epochs": 2}, "reinforce": {"batch": 3, "hidden": 8},
    "nsga2": {"population": 5}, "surrogate": {"startup": 5, "candidates": 16},
}  # fmt: skip
"""Sizes at which every strategy has begun to learn after a few trials."""


@pytest.fixture(autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


@pytest.fixture(params=STRATEGIES)
def strategy(request):
    return request.param


def make(strategy, name, seed=0):
    return STRATEGIES[strategy](space(name), seed=seed, **SMALL[strategy])


class TestOptunasContract(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self, strategy):
        # Parameters that no space knows: how our samplers behave in a study that is about something else, too.
        return lambda: make(strategy, "conditional")


def score(decisions) -> float:
    """Made up: the share of decisions with the label that its key asks for; a hill without traps."""
    return sum(hash_of(key, label) for key, label in decisions.items()) / len(decisions)


def hash_of(key, label) -> float:
    return random.Random(f"{key}={label}").random()


def run(strategy, name, trials, *, seed=0, objectives=1, study=None, sampler=None):
    """A user's own script: the labels of every trial."""
    study = study or optuna.create_study(directions=["maximize", "minimize"][:objectives])
    study.sampler = sampler or make(strategy, name, seed)
    found = []

    def objective(trial):
        decisions = space(name).suggest(trial).decisions
        found.append(dict(decisions))
        return (score(decisions), len(decisions) + score(decisions) ** 2)[:objectives]

    study.optimize(objective, n_trials=trials)
    return study, found


@pytest.fixture
def no_blind_draw(monkeypatch):
    def refuse(self, study, trial, name, distribution):
        raise AssertionError(f"{name} is drawn blindly")

    for sampler in STRATEGIES.values():
        monkeypatch.setattr(sampler, "sample_independent", refuse)
    for sampler in (optuna.samplers.TPESampler, optuna.samplers.NSGAIISampler):
        monkeypatch.setattr(sampler, "sample_independent", refuse)


@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("name", SPACES)
def test_proposals_are_whole_valid_and_never_blind(strategy, name, objectives, no_blind_draw):
    study, found = run(strategy, name, 18, objectives=objectives)
    for trial, decisions in zip(study.trials, found, strict=True):
        assert trial.params == decisions
        assert space(name).architecture(decisions).decisions == decisions
    assert len({tuple(sorted(d.items())) for d in found}) > 8


@pytest.mark.parametrize("objectives", [1, 2])
def test_the_seed_decides_everything(strategy, objectives):
    first = run(strategy, "conditional", 16, seed=1, objectives=objectives)[1]
    assert run(strategy, "conditional", 16, seed=1, objectives=objectives)[1] == first
    assert run(strategy, "conditional", 16, seed=2, objectives=objectives)[1] != first


def test_a_new_object_goes_on_as_the_old_one_would_have(strategy):
    whole = run(strategy, "conditional", 20)[1]
    study, first = run(strategy, "conditional", 7)
    for _ in range(13):
        first += run(strategy, "conditional", 1, study=study)[1]
    assert first == whole


def test_without_a_seed_two_samplers_differ(strategy):
    assert STRATEGIES[strategy](space("nasnet_cell")).seed != STRATEGIES[strategy](space("nasnet_cell")).seed


def test_other_parameters_of_a_script_are_drawn_beside_the_space(strategy):
    study = optuna.create_study(sampler=make(strategy, "conditional"))

    def objective(trial):
        rate = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        return rate - score(space("conditional").suggest(trial).decisions)

    study.optimize(objective, n_trials=12)
    assert len({trial.params["lr"] for trial in study.trials}) == 12


def test_failed_stopped_and_running_trials_are_no_obstacle(strategy):
    study = optuna.create_study(sampler=make(strategy, "conditional"))
    for number in range(24):
        trial = study.ask()
        decisions = space("conditional").suggest(trial).decisions
        assert space("conditional").architecture(decisions)
        if number % 4 == 0:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif number % 4 == 1:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        elif number % 4 == 2:
            study.tell(trial, score(decisions))


@pytest.mark.parametrize("name", ["regularized_evolution", "tpe", "nsga2", "surrogate"])
def test_constraints_are_respected(name):
    """Of the later trials, more keep a limit than of random ones, though the objective pulls the other way."""

    def kept(strategy):
        study = optuna.create_study(direction="maximize", sampler=make(strategy, "nasnet_cell", seed=3))
        for _ in range(60):
            trial = study.ask()
            decisions = space("nasnet_cell").suggest(trial).decisions
            separable = sum(str(label).startswith("sep") for label in decisions.values())
            trial.set_constraint("few_separable", float(separable - 3))
            study.tell(trial, float(separable))
        return sum(trial.constraints["few_separable"] <= 0 for trial in study.trials[30:])

    assert kept(name) > kept("random") + 3


def test_evolution_beats_random_search():
    """Median best of 60 trials over fixed seeds, on a made-up objective of 50 decisions."""
    seeds = range(5)
    sampler = {"regularized_evolution": lambda seed: RegularizedEvolutionSampler(
        space("nasnet_cell"), seed=seed, population=12, sample=4)}  # fmt: skip
    best = {
        name: sorted(
            max(map(score, run(name, "nasnet_cell", 60, seed=seed,
                               sampler=sampler[name](seed) if name in sampler else None)[1]))
            for seed in seeds
        )
        for name in ("random", "regularized_evolution")
    }  # fmt: skip
    assert best["regularized_evolution"][0] > best["random"][-1]


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_optunas_own_learn_on_the_flat_space(name):
    def median(strategy):
        last = [score(decisions) for decisions in run(strategy, "nasnet_cell", 60, seed=5)[1][40:]]
        return sorted(last)[len(last) // 2]

    assert median(name) > median("random") + 0.02


def test_nsga2_keeps_its_generations_in_the_study():
    study, _ = run("nsga2", "conditional", 22, objectives=2)
    generations = [trial.system_attrs["NSGAIISampler:generation"] for trial in study.trials]
    assert generations == sorted(generations)
    assert generations[-1] == 4


def test_tpe_learns_from_a_capped_history():
    sampler = TPESampler(space("conditional"), seed=0, history=50)
    study, _ = run("tpe", "conditional", 70, sampler=sampler)
    trials = study.get_trials(deepcopy=False)
    kept = sampler.history(study, trials)
    assert len(kept) == 50
    best = sorted(trials, key=lambda trial: -trial.value)[:6]
    assert {trial.number for trial in best} <= {trial.number for trial in kept}
    assert trials[-1] in kept


DECIMALS = st.integers(1, 500).map(lambda n: n / 100)


@given(st.builds(
    lambda low, width, step, log: Range(low=low, high=low + width, step=step, log=log),
    st.integers(1, 20), st.integers(0, 40), st.none() | st.integers(1, 7), st.booleans(),
) | st.builds(
    lambda low, width, step, log: Range(low=low, high=round(low + width, 2), step=step, log=log),
    DECIMALS, DECIMALS, st.none() | DECIMALS, st.booleans(),
), st.integers(0, 99))  # fmt: skip
def test_every_value_of_a_range_is_one_of_its_distributions_and_the_other_way_round(hole, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        known = distribution(hole)
    label = snap(hole, draw(hole, random.Random(seed)))
    assert known._contains(known.to_internal_repr(label))
    drawn = snap(hole, draw_from(known, random.Random(seed)))
    assert valid(hole, drawn)
    assert hole.count is None or (drawn in hole.values() and label in hole.values())
    assert known.single() == (hole.count == 1 or hole.low == hole.high)


def test_labels_stay_scalars():
    for name in SPACES:
        for known in distributions(space(name)).values():
            for label in getattr(known, "choices", ()):
                assert label is None or isinstance(label, bool | int | float | str)


@pytest.mark.parametrize("name", SPACES)
def test_a_mutation_changes_one_decision_and_what_hangs_on_it(name):
    rng = random.Random(0)
    for _ in range(50):
        parent = space(name).sample(rng).decisions
        child = redraw(space(name), parent, rng)
        space(name).architecture(child)
        changed = [key for key in parent if key in child and child[key] != parent[key]]
        assert len(changed) == 1
        assert name != "nasnet_cell" or set(child) == set(parent)  # there, nothing hangs on anything


def test_a_space_of_one_architecture_is_searched_without_end():
    only = SearchSpace(parse_text(
        "name: one\n"
        "network: [{name: a, op: conv_bn, out_channels: 4, kernel_size: {choice: [3]}}, global_avg_pool, classifier]"
    ))  # fmt: skip
    for strategy, kind in STRATEGIES.items():
        study = optuna.create_study(sampler=kind(only, seed=0, **SMALL[strategy]))
        study.optimize(lambda trial: float(len(only.suggest(trial).decisions)), n_trials=8)
        assert {tuple(trial.params.values()) for trial in study.trials} == {(3,)}


def test_a_slow_training_joins_the_population_when_it_ends():
    sampler = RegularizedEvolutionSampler(space("conditional"), seed=0, population=3, sample=2)
    study = optuna.create_study(sampler=sampler)
    trials = [study.ask() for _ in range(8)]
    for trial in trials:
        space("conditional").suggest(trial)
    for number in (1, 2, 3, 4, 5, 0):
        study.tell(trials[number], 1.0)
    assert [member.number for member in sampler.living(study, study.trials[7])] == [0, 5, 4]


@pytest.mark.parametrize(("name", "budget", "kind", "said"), [
    ("auto", "10trials", "surrogate", "fewest trials"),
    ("auto", "500trials", "surrogate", "fewest trials"),
    ("auto", "100trials", "surrogate", "fewest trials"),
    ("auto", "3min", "surrogate", "fewest trials"),
    ("auto", "20000trials", "regularized_evolution", "20,000 trials"),
    ("auto", "1000trials,10min", "regularized_evolution", "sooner than a model proposes"),
    ("regularized_evolution", "500trials", "regularized_evolution", "population 100, sample 25"),
    ("regularized_evolution", "100trials", "regularized_evolution", "population 20, sample 5"),
    ("tpe", "3min", "tpe", "asked for"),
    ("nsga2", "1000trials", "nsga2", "population 100"),
    ("random", "1h", "random", "asked for"),
])  # fmt: skip
def test_a_strategy_is_chosen_and_says_why(name, budget, kind, said):
    sampler, why = choose_strategy(name, space("conditional"), parse_budget(budget), seed=7)
    assert type(sampler) is STRATEGIES[kind]
    assert sampler.seed == 7
    assert said in why


@pytest.mark.parametrize("expected", [None, 3, 60, 500, 20_000])
def test_every_strategy_fits_its_sizes_to_the_trials(strategy, expected):
    for page in SPACES:
        sampler, why = choose_strategy(strategy, space(page), Budget(), seed=1, trials=expected)
        assert type(sampler) is STRATEGIES[strategy]
        assert why.startswith("it was asked for")


def test_every_strategy_is_documented(strategy):
    assert f"| `{strategy}` |" in (PAGES.parent / "docs" / "strategies.md").read_text()
    assert strategy in KEYS["strategy"]


def test_an_unknown_strategy_names_the_nearest():
    with pytest.raises(UsageError, match="regularized_evolution"):
        choose_strategy("evolution", space("conditional"), Budget())


@pytest.mark.parametrize(("kind", "sizes"), [
    (RegularizedEvolutionSampler, {"population": 0}), (RegularizedEvolutionSampler, {"sample": 0}),
    (NSGAIISampler, {"population": 1}), (TPESampler, {"history": 3}),
])  # fmt: skip
def test_sizes_that_cannot_be_are_told(kind, sizes):
    with pytest.raises(UsageError, match="or more"):
        kind(space("conditional"), **sizes)


def test_no_strategy_imports_torch():
    code = "import sys, nas.search.samplers, nas.search.study; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
