"""The strategies with a neural model: what they read, what they learn, and that all of it follows from the study."""

import random

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.search.samplers import NAOSampler, PNASSampler, ReinforceSampler, RLSampler
from nas.search.samplers.autoencoder import Autoencoder
from nas.search.samplers.controller import Controller, Learner
from nas.search.samplers.ensemble import Ensemble
from nas.search.samplers.past import completed, key_of
from nas.search.samplers.ranking import merits
from nas.search.samplers.structure import trivial
from nas.search.samplers.tokens import BINS, Tokens
from nas.space.parse import parse_text
from nas.space.search_space import SearchSpace, valid
from tests.pages import SPACE_FILES
from tests.pages import space as bundled
from tests.search.spaces import space

FLAT = """
name: flat
network:
""" + "\n".join(
    f"  - {{name: l{i}, op: relu_conv_bn, out_channels: 8, kernel_size: {{choice: [1, 3, 5, 7]}}}}" for i in range(8)
) + """
  - global_avg_pool
  - classifier
"""
EVERYWHERE = [*(file.stem for file in SPACE_FILES), "conditional"]


def of(name):
    return space(name) if name == "conditional" else bundled(name)


@pytest.fixture(scope="module")
def flat():
    return SearchSpace(parse_text(FLAT))


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def total(decisions):
    return sum(decisions.values()) / 56


def search(page, sampler, count):
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda trial: total(page.suggest(trial).decisions), n_trials=count)
    return study


@pytest.mark.parametrize("name", EVERYWHERE)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_tokens_are_labels_and_back(name, seed):
    page, rng = of(name), random.Random(seed)
    tokens, decisions = Tokens(page), page.sample(rng).decisions
    sequence = tokens.sequence(decisions, rng)
    assert [list(tokens.slots)[token.slot] for token in sequence] == [key for key in decisions if key in tokens.slots]
    for token in sequence:
        key = list(tokens.slots)[token.slot]
        assert 0 <= token.place < token.size <= max(2 * BINS, len(getattr(page.holes[key], "labels", ())))
        label = tokens.label(key, token.place, rng)
        assert valid(page.holes[key], label)
        back = tokens.token(key, label)
        assert abs(back.place - token.place) <= (page.holes[key].__class__.__name__ == "Range")  # a value may round to the edge
    row = tokens.rows([decisions])[0]
    assert row.sum() == len(sequence)
    assert row.shape == (tokens.total,)


@pytest.mark.parametrize("name", EVERYWHERE)
def test_a_controller_writes_what_it_can_read(name):
    controller = Controller(Tokens(of(name)), hidden=4, layers=1, init=0.1, seed=0)
    rng = random.Random(0)
    written = [controller.write(rng) for _ in range(2)]
    for decisions in written:
        assert dict(of(name).architecture(decisions).decisions) == dict(decisions)
    logs, entropy, there = controller([controller.tokens.sequence(decisions, rng) for decisions in written])
    assert there.sum(1).tolist() == [len(set(d) & set(controller.tokens.slots)) for d in written]
    assert (logs[there] <= 0).all()
    assert (entropy[there] >= 0).all()
    assert torch.isfinite(logs).all()


def test_the_written_is_as_likely_as_the_read(flat):
    """Drawing and reading are one distribution: the first decision's frequencies are its probabilities."""
    controller = Controller(Tokens(flat), hidden=8, layers=2, init=1.0, seed=3)
    rng = random.Random(0)
    written = [controller.write(rng) for _ in range(200)]
    key = next(iter(flat.holes))
    for label in (1, 3, 5, 7):
        like = {**written[0], key: label}
        logs, _, _ = controller([controller.tokens.sequence(like, rng)])
        share = sum(decisions[key] == label for decisions in written) / len(written)
        assert share == pytest.approx(float(logs[0, 0].detach().exp()), abs=0.12)


@pytest.mark.parametrize("update", ["ppo", "reinforce"])
def test_what_was_rewarded_becomes_likelier(flat, update):
    controller = Controller(Tokens(flat), hidden=16, layers=1, init=0.1, seed=0)
    learner = Learner(controller, update=update, lr=0.01, entropy=1e-5, decay=0.95, epochs=3, clip=0.2)
    good, bad = (controller.tokens.sequence(dict.fromkeys(flat.holes, size), random.Random(0)) for size in (7, 1))

    def likely(sequence):
        with torch.no_grad():
            return float(controller([sequence])[0].sum())

    before = likely(good), likely(bad)
    learner.learn([bad, good, good, bad], [0.0, 1.0, 1.0, 0.0])
    assert likely(good) > before[0]
    assert likely(bad) < before[1]
    assert 0 < learner.baseline < 0.2


@pytest.mark.parametrize("make", [
    lambda page: RLSampler(page, seed=0, batch=10, lr=0.01, hidden=20),
    lambda page: ReinforceSampler(page, seed=0, batch=5, lr=0.02, hidden=20),
    lambda page: PNASSampler(page, seed=0, keep=12, pool=60, steps=40),
    lambda page: NAOSampler(page, seed=0, first=25, each=15, best=6, steps=60),
], ids=["rl", "reinforce", "pnas", "nao"])  # fmt: skip
def test_models_find_better_than_chance(flat, make):
    study = search(flat, make(flat), 100)
    last = [trial.value for trial in study.trials[70:]]
    assert np.mean(last) > 0.5714 + 0.12  # the mean of random ones, 4/7, and four times the standard deviation of such a mean


def test_a_process_that_joins_learns_what_another_has_learnt(flat):
    study = search(flat, RLSampler(flat, seed=0, batch=4, hidden=8), 22)
    one, other = study.sampler, RLSampler(flat, seed=0, batch=4, hidden=8)
    done = completed(study.trials)
    weights = [list(sampler._follow(study, done).controller.parameters()) for sampler in (one, other)]
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    RLSampler(flat, seed=0, batch=4, hidden=8)._follow(study, done)
    assert torch.equal(torch.get_rng_state(), state)  # no one else's random numbers are used


def test_another_study_is_not_mixed_up(flat):
    sampler = RLSampler(flat, seed=0, batch=4, hidden=8)
    search(flat, sampler, 9)
    alone = search(flat, RLSampler(flat, seed=0, batch=4, hidden=8), 12)
    after = search(flat, sampler, 12)
    assert [t.params for t in after.trials] == [t.params for t in alone.trials]


def test_progressive_search_grows(flat):
    sampler = PNASSampler(flat, seed=0, keep=6, pool=40, steps=5)
    study = search(flat, sampler, 34)
    least = {key: trivial(hole) for key, hole in flat.holes.items()}
    reach = [max((sampler.stage[key] for key, label in trial.params.items() if label != least[key]), default=0)
             for trial in study.trials]  # fmt: skip
    assert sampler.count == 5
    assert [max(reach[start : start + 6]) for start in range(0, 30, 6)] == [0, 1, 2, 3, 4]
    assert len({key_of(trial.params) for trial in study.trials}) == 34


def test_a_round_is_the_same_in_every_process(flat):
    study = search(flat, NAOSampler(flat, seed=0, first=6, each=5, best=3, steps=5), 13)
    other = NAOSampler(flat, seed=0, first=6, each=5, best=3, steps=5)
    done = completed(study.trials)
    assert other._list(study, 2, done[:11]) == study.sampler._list(study, 2, done[:11])


def test_stragglers_change_no_round(flat):
    sampler = PNASSampler(flat, seed=0, keep=4, pool=30, steps=5)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    trials = [study.ask() for _ in range(7)]
    for trial in trials:
        flat.suggest(trial)
    for trial in trials[3:]:
        study.tell(trial, 0.5)
    flat.suggest(study.ask())
    made = sampler._made
    study.tell(trials[0], 0.9)  # it was asked for first and ends last
    flat.suggest(study.ask())
    assert sampler._made is made


def test_the_ensemble_and_the_autoencoder_learn(flat):
    tokens, rng = Tokens(flat), random.Random(0)
    architectures = [flat.sample(rng).decisions for _ in range(150)]
    rows, worth = tokens.rows(architectures), np.array([total(d) for d in architectures])
    ensemble = Ensemble([range(16), range(16, 32)], seed=0)
    ensemble.fit(rows[:100], worth[:100], 150)
    assert np.corrcoef(ensemble.predict(rows[100:]), worth[100:])[0, 1] > 0.8
    model = Autoencoder(tokens, seed=0)
    model.fit(rows[:100], worth[:100], 250)
    assert np.corrcoef(model.worth(rows[100:]), worth[100:])[0, 1] > 0.7
    same = model.climb(rows[:100], 0.0).reshape(100, 8, 4).argmax(2) == rows[:100].reshape(100, 8, 4).argmax(2)
    assert same.mean() > 0.8
    moved = model.climb(rows[:100], 1.5).reshape(100, 8, 4).argmax(2).mean()
    assert moved > rows[:100].reshape(100, 8, 4).argmax(2).mean() + 0.2


def trial(number, values, broken=0.0):
    made = optuna.trial.create_trial(values=values, system_attrs={"constraints:limit": broken})
    made.number = number
    return made


def test_merits():
    maximize, minimize = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
    found = [trial(0, [0.5]), trial(1, [0.9], broken=3.0), trial(2, [0.7])]
    assert merits(found, [maximize]).tolist() == pytest.approx([0.5, 0.5 - 0.4, 0.7])
    assert merits(found[::2], [minimize]).tolist() == [-0.5, -0.7]
    pairs = [trial(0, [0.9, 1.0]), trial(1, [0.8, 2.0]), trial(2, [0.95, 0.5], broken=1.0)]
    assert merits(pairs, [maximize, minimize]).tolist() == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(("kind", "words"), [
    (RLSampler, {"batch": 0}), (RLSampler, {"lr": 0.0}), (ReinforceSampler, {"layers": 0}), (PNASSampler, {"keep": 1}),
    (PNASSampler, {"steps": 0}), (NAOSampler, {"best": 0}), (NAOSampler, {"first": 1}),
])  # fmt: skip
def test_sizes_that_cannot_be_are_told(kind, words):
    with pytest.raises(UsageError, match="or more"):
        kind(space("conditional"), **words)
