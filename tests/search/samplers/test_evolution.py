"""The controls and relatives of regularized evolution."""

import random
from collections import Counter

import optuna
import pytest
from optuna.trial import TrialState

from nas.errors import UsageError
from nas.search.samplers import HierarchicalEvolutionSampler, NonAgingEvolutionSampler
from nas.search.samplers.regularized_evolution import REMOVED
from nas.search.samplers.structure import nesting, stages, trivial
from tests.pages import SPACE_FILES
from tests.pages import space as bundled
from tests.search.spaces import space

EVERYWHERE = [*(file.stem for file in SPACE_FILES), "conditional"]


def of(name):
    return space(name) if name == "conditional" else bundled(name)


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def separable(decisions):
    return float(sum(str(label).startswith("sep") for label in decisions.values()))


def test_without_aging_the_worst_of_the_sample_goes():
    sampler = NonAgingEvolutionSampler(space("nasnet_cell"), seed=0, population=6, sample=6)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda trial: separable(space("nasnet_cell").suggest(trial).decisions), n_trials=30)
    for trial in study.trials[6:]:
        living = {t.number for t in study.trials[: trial.number]} - {
            t.system_attrs[REMOVED] for t in study.trials[: trial.number] if REMOVED in t.system_attrs}
        assert len(living) == 6
        assert trial.system_attrs[REMOVED] in living
    probe = optuna.trial.create_trial(state=TrialState.COMPLETE, value=0.0)
    probe.number = 30
    survivors = sampler.living(study, probe)
    assert len(survivors) == 6
    assert study.best_trial.number in {trial.number for trial in survivors}  # with aging it would die
    assert min(t.value for t in survivors) > sorted(t.value for t in study.trials)[15]


def test_a_failed_child_takes_no_one_out():
    sampler = NonAgingEvolutionSampler(space("conditional"), seed=0, population=4, sample=3)
    study = optuna.create_study(sampler=sampler)
    for number in range(20):
        trial = study.ask()
        space("conditional").suggest(trial)
        failed = number > 4 and number % 2
        study.tell(trial, None if failed else float(number), TrialState.FAIL if failed else TrialState.COMPLETE)
    probe = study.ask()
    survivors = sampler.living(study, study.trials[probe.number])
    assert len(survivors) == 4


def test_diversified_architectures_are_spread_over_all_labels():
    sampler = HierarchicalEvolutionSampler(bundled("nas_bench_201"), seed=0)
    rng = random.Random(0)
    labels = Counter(label for _ in range(200) for label in sampler.diversified(rng).values())
    assert len(labels) == 5
    assert max(labels.values()) < 1.4 * min(labels.values())


@pytest.mark.parametrize("name", EVERYWHERE)
def test_diversified_architectures_are_of_the_space(name):
    sampler = HierarchicalEvolutionSampler(of(name), seed=0, mutations=100)
    for seed in range(3):
        decisions = sampler.diversified(random.Random(seed))
        assert dict(of(name).architecture(decisions).decisions) == dict(decisions)


def test_a_level_is_chosen_before_a_motif_and_an_edge():
    page = bundled("hierarchical")
    assert nesting(page) == {**{f"motif{i}": 1 for i in range(1, 7)}, "cell": 2}
    sampler = HierarchicalEvolutionSampler(page, seed=0, population=1)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: float(trial.number) + len(page.suggest(trial).decisions), n_trials=80)
    first = study.trials[0].params
    changed = Counter(key.split(".")[0] for trial in study.trials[1:] for key in first if trial.params[key] != first[key])
    assert changed["cell"] > 2 * max(count for name, count in changed.items() if name != "cell")


def test_the_trivial_label_lets_data_through():
    assert {trivial(hole) for hole in bundled("nas_bench_201").holes.values()} == {"skip_connect"}
    assert {trivial(hole) for key, hole in bundled("hierarchical").holes.items() if key.startswith("motif")} == {"identity"}
    assert trivial(bundled("hierarchical").holes["cell.node2.from1"]) == "motif1"
    assert trivial(space("conditional").holes["network.stem.out_channels"]) == 8


@pytest.mark.parametrize("name", EVERYWHERE)
def test_stages_are_few_and_each_has_decisions(name):
    found = stages(of(name), 5)
    assert found.keys() == of(name).holes.keys()
    assert set(found.values()) == set(range(max(found.values()) + 1))
    assert max(found.values()) < 5


def test_the_stages_of_a_cell_are_its_blocks():
    found = stages(bundled("nasnet_cell"), 5)
    assert all(str(stage) == key.split(".")[1][1] for key, stage in found.items() if key.split(".")[1].startswith("b"))


@pytest.mark.parametrize("words", [{"population": 0}, {"mutations": 0}, {"share": 0.0}, {"share": 1.5}])
def test_sizes_that_cannot_be_are_told(words):
    with pytest.raises(UsageError, match="or more"):
        HierarchicalEvolutionSampler(space("conditional"), **words)
