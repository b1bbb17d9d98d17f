"""Our own strategy: valid and new proposals on every bundled space, the same for the same study, and better than chance."""

import random
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from nas.errors import UsageError
from nas.net.identity import identity
from nas.net.lower import lower
from nas.search.objectives import parse_constraint, parse_objectives
from nas.search.samplers import RandomSampler
from nas.search.samplers.beliefs import Beliefs, Point
from nas.search.samplers.encoding import VIEWS, Coder, encode, matrix
from nas.search.samplers.gaussian_process import GaussianProcess, _loss, default, fit, inputs
from nas.search.samplers.improvement import expected_improvement, pull_in, unwarp, warp
from nas.search.samplers.surrogate import SurrogateSampler
from nas.search.storage import open_storage
from nas.search.study import SearchStudy
from nas.space.parse import parse_file, parse_text
from nas.space.search_space import SearchSpace

PAGES = sorted((Path(__file__).parents[3] / "search_spaces").glob("*.yaml"))

SMALL = """
name: small
network:
  - {name: stem, op: conv_bn, kernel_size: 3, out_channels: {choice: [8, 16, 24, 32]}}
  - {name: a, op: {choice: {conv: relu_conv_bn, sep: sep_conv}}, kernel_size: 3}
  - {name: b, op: relu_conv_bn, kernel_size: {choice: [1, 3, 5]}}
  - global_avg_pool
  - classifier
"""
FLAT = """
name: flat
network:
""" + "\n".join(
    f"  - {{name: l{i}, op: relu_conv_bn, out_channels: 8, kernel_size: {{choice: [1, 3, 5, 7]}}}}" for i in range(8)
) + """
  - global_avg_pool
  - classifier
"""


def search(space, objective, sampler, count, directions=("maximize",), names=None):
    study = optuna.create_study(directions=list(directions), sampler=sampler)
    if names:
        with pytest.warns(optuna.exceptions.ExperimentalWarning):
            study.set_metric_names(names)
    study.optimize(lambda trial: objective(space.suggest(trial)), n_trials=count)
    return study


def fresh(architecture):
    return identity(lower(architecture))


def additive(architecture):
    return sum(value * (i + 1) for i, value in enumerate(architecture.decisions.values())) / 100


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_proposals_of_every_bundled_space_are_valid_and_new(page):
    space = SearchSpace(parse_file(page))
    seen = []

    def objective(architecture):
        graph = lower(architecture)
        seen.append(identity(graph))
        return float(np.log(graph.macs + 1))

    study = search(space, objective, SurrogateSampler(space, seed=1, startup=4, candidates=12), 7)
    assert len(set(seen)) == len(seen) == 7
    for trial in study.trials:
        assert dict(space.architecture(trial.params).decisions) == trial.params


def test_another_process_goes_on_as_this_one_would():
    space = SearchSpace(parse_text(FLAT))
    one = search(space, additive, SurrogateSampler(space, seed=3, startup=5), 12)
    other = search(space, additive, SurrogateSampler(space, seed=3, startup=5), 8)
    other.sampler = SurrogateSampler(space, seed=3, startup=5)
    other.optimize(lambda trial: additive(space.suggest(trial)), n_trials=4)
    assert [t.params for t in one.trials] == [t.params for t in other.trials]


def test_no_duplicate_while_the_space_lasts_and_no_error_after():
    space = SearchSpace(parse_text(SMALL))
    distinct = {fresh(a) for a in space.enumerate()}
    seen = []
    search(space, lambda a: seen.append(fresh(a)) or float(len(seen) % 7), SurrogateSampler(space, seed=0), len(distinct) + 2)
    assert set(seen[: len(distinct)]) == distinct


def test_better_than_random_by_a_wide_margin():
    space = SearchSpace(parse_text(FLAT))
    rng = np.random.default_rng(0)
    ours, chance = [], []
    for seed in range(2):
        noisy = lambda a: additive(a) + 0.02 * rng.standard_normal()  # noqa: E731
        study = search(space, noisy, sampler := SurrogateSampler(space, seed=seed), 40)
        [best] = sampler.recommend(study)
        ours.append(additive(space.architecture(study.trials[best].params)))
        drawn = search(space, additive, RandomSampler(space, seed=seed), 200)
        chance.append(drawn.best_value)
    assert np.mean(ours) > np.mean(chance) + 0.1
    assert min(ours) > 0.97 * 7 * 36 / 100


def test_pending_trials_are_not_proposed_again():
    space = SearchSpace(parse_text(FLAT))
    study = search(space, additive, SurrogateSampler(space, seed=0, startup=5), 6)
    asked = [space.suggest(study.ask()) for _ in range(10)]
    assert len({fresh(a) for a in asked}) == 10


def test_two_objectives_one_of_them_known():
    space = SearchSpace(parse_text(FLAT))

    def cost(architecture):
        return {"macs": float(lower(architecture).macs)}

    def both(architecture):
        return additive(architecture) ** 0.5, cost(architecture)["macs"]

    kinds = ("maximize", "minimize")
    sampler = SurrogateSampler(space, seed=0, known=cost)
    study = search(space, both, sampler, 40, kinds, ["accuracy", "macs"])
    chosen = sampler.recommend(study)
    table = np.array([study.trials[n].values for n in chosen])
    order = np.argsort(table[:, 1])
    assert len(chosen) > 8
    assert (np.diff(table[order, 0]) > -0.05).all()
    chance = search(space, both, RandomSampler(space, seed=0), 40, kinds)
    # Twice as fast is as much wherever on the front: logarithms; accuracy counts above the median of random ones.
    floor = -float(np.median([t.values[0] for t in chance.trials]))
    reference = np.array([floor, float(np.log(max(t.values[1] for t in chance.trials)))])

    def area(trials):
        points = np.array([[-t.values[0], np.log(t.values[1])] for t in trials])
        return optuna._hypervolume.compute_hypervolume(points[(points <= reference).all(axis=1)], reference)

    assert area(study.trials) > 1.05 * area(chance.trials)


def test_failures_teach_where_not_to_look():
    space = SearchSpace(parse_text(FLAT))

    def objective(architecture):
        if architecture.decisions["network.l0.kernel_size"] == 7:
            raise RuntimeError("out of memory")
        return additive(architecture)

    study = optuna.create_study(direction="maximize", sampler=SurrogateSampler(space, seed=0))
    study.optimize(lambda trial: objective(space.suggest(trial)), n_trials=40, catch=(RuntimeError,))
    assert sum(t.state == optuna.trial.TrialState.FAIL for t in study.trials[-15:]) <= 4


def test_trials_that_were_stopped_for_a_limit_teach_where_not_to_look(tmp_path):
    space = SearchSpace(parse_text(FLAT))
    with open_storage(tmp_path / "journal") as storage:
        study = SearchStudy(storage, space, parse_objectives("accuracy"), [parse_constraint("latency<=3ms")])
        sampler = SurrogateSampler(space, seed=0)
        for _ in range(40):
            record, architecture = study.ask(sampler)
            metrics = {"latency": sum(value * (8 - i) for i, value in enumerate(architecture.decisions.values())) / 48}
            over = metrics["latency"] > 3  # as half of all are; the accurate ones of them all the more
            if over:
                study.tell(record.number, "stopped", metrics=metrics)
            else:
                study.tell(record.number, "completed", metrics=metrics | {"accuracy": additive(architecture) / 3})
        states = [record.state for record in study.records]
    assert states[-20:].count("stopped") <= 15  # 20, where only what was trained is learnt from


@pytest.mark.parametrize("in_flight", [False, True])
def test_what_was_measured_and_not_trained_is_learnt_from(in_flight):
    space = SearchSpace(parse_text(FLAT))
    coder, rng = Coder(space), random.Random(0)
    cost = {f"network.l{i}.kernel_size": weight for i, weight in enumerate((0, 5, 0, 3, 1, 0, 2, 0))}

    def points(count, told):
        found = [coder(space.sample(rng).decisions) for _ in range(count)]
        slow = [1.0 + sum(weight * one.decisions[key] for key, weight in cost.items()) for one in found]
        known = [{"latency": ms} if told else {} for ms in slow]
        return [Point(one.code, k, partial(coder.costs, one.decisions)) for one, k in zip(found, known, strict=True)], slow

    trained, slow = points(12, False)
    losses = np.stack([-np.random.default_rng(0).random(12), slow], axis=1)
    told, _ = points(60, True)
    pool, truth = points(60, False)

    def agreement(pending, stopped):
        beliefs = Beliefs(trained, losses, losses, ["accuracy", "latency"], [-1.0, 1.0], stopped)
        beliefs.smoothen(beliefs.fit())
        np.testing.assert_array_equal(beliefs.smooth[:, 1], np.log(losses[:, 1]))
        return -spearmanr(beliefs.gain(pending, pool, np.random.default_rng(0)), truth).statistic

    more = agreement(told, []) if in_flight else agreement([], told)
    assert more > agreement([], [])


def test_the_gradient_is_the_slope():
    rng = np.random.default_rng(0)
    views = [rng.standard_normal((12, 3)), rng.standard_normal((12, 2))]
    squares = np.stack([((v[:, None] - v[None]) ** 2).sum(-1) for v in views])
    targets, means, spreads = rng.standard_normal(12), default(2), np.ones(4)
    theta = means + 0.3 * rng.standard_normal(4)
    line = 0.1 * np.outer(*[rng.standard_normal(12)] * 2)
    _, slope = _loss(theta, squares, line, targets, means, spreads)
    step = 1e-5 * np.eye(4)
    ends = [[_loss(theta + s * sign, squares, line, targets, means, spreads)[0] for sign in (1, -1)] for s in step]
    np.testing.assert_allclose(slope, [(a - b) / 2e-5 for a, b in ends], rtol=1e-4, atol=1e-6)
    priors = np.array([1.0, 1.0, 2.0, 1.5])
    known, flat = inputs(views, np.zeros(12), 12), np.zeros((12, 12))
    ends = [_loss(at, known.squares, flat, targets, means, priors)[0] for at in (means, fit(known, targets, 0.5))]
    assert ends[1] < ends[0]


def test_the_process_goes_through_what_it_saw_and_along_its_trend_beyond():
    rng = np.random.default_rng(0)
    trend = np.linspace(-2, 2, 12)
    known = inputs([rng.standard_normal((12, 3)) + 50 * (np.arange(12) >= 10)[:, None]], trend, 10)
    quiet = np.array([0.0, 0.0, -9.0])
    mean, deviation = GaussianProcess(known, np.zeros(10), quiet, 0.5).predict(0, 12)
    np.testing.assert_allclose(mean[:10], 0.0, atol=0.01)
    assert deviation[:10].max() < 0.1 < 0.9 < deviation[10:].min()
    nothing, _ = GaussianProcess(known, 0.5 * trend[:2], quiet, 0.5).predict(10, 12)
    np.testing.assert_allclose(nothing, 0.5 * trend[10:])


def test_scores_are_undone_and_go_on_beyond_the_best():
    losses = np.array([3.0, 1.0, 2.0, 2.0, 9.0, 4.0, 5.0, 6.0])
    np.testing.assert_allclose(unwarp(warp(losses), losses), losses)
    assert unwarp(np.array([-3.0]), losses)[0] < 1.0


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30))
def test_costs_are_pulled_in_at_the_ends_alone(values):
    losses = np.array(values)
    scores, back = pull_in(losses)
    assert abs(scores.mean()) < 1e-6
    assert (np.diff(scores[np.argsort(losses)]) >= 0).all()
    middle = np.median(losses)
    near = np.abs(losses - middle) <= np.median(np.abs(losses - middle))
    np.testing.assert_allclose(back(scores)[near], losses[near], atol=1e-9)


def test_one_network_that_computes_nothing_does_not_set_the_scale():
    usual = np.linspace(0.0, 1.0, 20)
    scores, _ = pull_in(np.r_[usual, -30.0])
    assert np.ptp(scores[:20]) > 2.0


def test_expected_improvement_of_certain_points_is_the_hypervolume_they_add():
    front, reference = np.array([[0.2, 0.6], [0.6, 0.2]]), np.ones(2)
    points = np.array([[[0.4, 0.4], [0.7, 0.7], [0.1, 0.1], [0.3, 0.5]]])
    gain = expected_improvement(points, front, reference)
    exact = np.array([0.04, 0.0, 0.81 - 0.48, 0.03])
    np.testing.assert_allclose(gain / gain[2], exact / exact[2], atol=0.01)


def test_equal_networks_have_equal_graph_views():
    page = next(p for p in PAGES if p.stem == "nas_bench_201")
    space = SearchSpace(parse_file(page))
    dead = dict.fromkeys(space.holes, "none") | {"cell.node3.from0": "nor_conv_3x3"}
    one, other = (space.architecture(dead | {"cell.node1.from0": op}) for op in ("nor_conv_1x1", "skip_connect"))
    codes = [encode(space, a, lower(a)) for a in (one, other)]
    assert codes[0][1:] == codes[1][1:]
    assert codes[0].decisions != codes[1].decisions
    assert matrix([codes[0].paths, codes[1].paths]).shape == (2, 0)
    assert set(VIEWS) == set(codes[0]._fields)


@pytest.mark.parametrize("words", [{"startup": 1}, {"candidates": 0}, {"history": 5}])
def test_sizes_that_cannot_be_are_told(words):
    with pytest.raises(UsageError):
        SurrogateSampler(SearchSpace(parse_text(SMALL)), **words)
