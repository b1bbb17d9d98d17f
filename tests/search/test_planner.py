"""What the planner chooses: sizes, epochs and the recipe follow from data, device and budget, and from what is said."""

from __future__ import annotations

import time

import numpy as np
import pytest

from nas.errors import UsageError
from nas.net.graph import Size
from nas.net.lower import lower
from nas.search.config import SearchConfig, SizeWords
from nas.search.planner import CANDIDATES, EPOCHS, OVERHEAD_S, Pace, multipliers, plan_search
from nas.space.library import load_space
from nas.space.search_space import SearchSpace
from nas.train.data import load_data
from tests.search.fakes import MANY, space_of
from tests.search.runs import write_data


@pytest.fixture
def pace(monkeypatch):
    """A device on which a multiply-add takes a nanosecond."""
    monkeypatch.setattr(Pace, "measure", classmethod(lambda cls, *args: Pace(1e-5, 1e-9)))


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", seed=0)


@pytest.fixture(scope="module")
def nasnet():
    return load_space("nasnet_cell")


def planned(space: SearchSpace, data, seconds, workers=2, **words):
    config = SearchConfig.from_words({"space": "x", "data": "digits", "budget": "3min", **words})
    return plan_search(space, data, config, device="cpu", workers=workers, seconds=seconds)


@pytest.mark.parametrize("seconds", [60.0, 180.0, 600.0, 3600.0, 86400.0])
def test_enough_candidates_fit(pace, nasnet, digits, seconds):
    plan = planned(nasnet, digits, seconds)
    assert plan.recipe.epochs <= EPOCHS[1]
    one = plan.epoch_s * plan.recipe.epochs + OVERHEAD_S
    assert seconds * 2 / one >= 0.9 * CANDIDATES or plan.recipe.epochs == 1


def test_more_time_never_makes_the_training_smaller(pace, nasnet, digits):
    plans = [planned(nasnet, digits, seconds) for seconds in (30.0, 180.0, 1800.0, 86400.0)]
    macs = [_macs(nasnet, plan.proxy) * plan.recipe.epochs for plan in plans]
    assert macs == sorted(macs)


def _macs(space, size):
    import random

    return lower(space.sample(random.Random(0)), size).macs


def test_small_data_have_one_size(pace, nasnet, digits):
    plan = planned(nasnet, digits, 180.0)
    assert plan.deploy == plan.proxy
    assert plan.deploy.input == (1, 8, 8)
    assert plan.deploy.num_classes == 10
    assert "the same network" in plan.notes[1]


def test_what_is_said_is_kept_and_told(pace, nasnet, digits):
    plan = planned(nasnet, digits, 180.0, epochs="7", batch_size="16", proxy="repeats=2,filters=16",
                   deploy="repeats=6,filters=32,batch=8")
    assert (plan.proxy.width, plan.proxy.depth) == (0.5, 1 / 3)
    assert (plan.deploy.width, plan.deploy.depth) == (1.0, 1.0)
    assert (plan.recipe.epochs, plan.recipe.batch_size, plan.batch) == (7, 16, 8)
    assert plan.recipe.learning_rate == 0.025
    text = " ".join(plan.notes)
    assert "width x0.5" in text
    assert "width x1" in text
    assert "7 epochs, batch 16" in text


def test_a_deployed_input_and_classes_of_its_own(pace, nasnet, digits):
    plan = planned(nasnet, digits, 180.0, deploy="input=3x32x32,num_classes=100")
    assert (plan.deploy.input, plan.deploy.num_classes) == ((3, 32, 32), 100)
    assert (plan.proxy.input, plan.proxy.num_classes) == ((1, 8, 8), 10)
    assert (plan.deploy.width, plan.deploy.depth) == (plan.proxy.width, plan.proxy.depth)


def test_one_size_follows_what_is_said_of_the_other(pace, nasnet, digits):
    plan = planned(nasnet, digits, 180.0, deploy="repeats=2")
    assert plan.proxy == plan.deploy
    assert plan.proxy.depth == 1 / 3


def test_repeats_and_filters_as_multipliers(nasnet):
    words = multipliers(nasnet.spec, SizeWords(repeats=3, filters=8))
    assert (words.width, words.depth, words.repeats, words.filters) == (0.25, 0.5, None, None)
    for said in (SizeWords(repeats=3), SizeWords(filters=8)):
        with pytest.raises(UsageError, match=r"Write (width|depth)=0\.5"):
            multipliers(space_of(MANY).spec, said)


def test_data_that_no_network_of_the_space_fits(digits):
    page = MANY.replace("network:", "network:\n  - {name: z, op: conv_bn_act, kernel_size: 9, padding: 0, out_channels: 4}")
    with pytest.raises(UsageError, match="no network of many fits"):
        planned(space_of(page), digits, 60.0)


@pytest.mark.parametrize("pixels", [8, 96])
def test_planning_is_quick_whatever_the_images(tmp_path, pixels):
    """Pixels cost time when a step is timed: of large images only a few are taken."""
    path = write_data(tmp_path / "a.npz")
    if pixels > 8:
        images = np.zeros((400, pixels, pixels, 3), dtype=np.uint8)
        np.savez(path, x_train=images[:300], y_train=np.arange(300) % 3, x_test=images[300:], y_test=np.arange(100) % 3)
    start = time.process_time()
    plan = planned(load_space("efficientnet") if pixels > 8 else space_of(MANY), load_data(str(path), seed=0), 60.0)
    assert time.process_time() - start < 30
    assert plan.recipe.epochs >= 1
    assert plan.proxy.input == (3 if pixels > 8 else 1, pixels, pixels)


def test_a_pace_predicts_its_own_points():
    pace = Pace(1e-4, 1e-9)
    graph = lower(space_of(MANY).sample(__import__("random").Random(0)), Size(input=(1, 8, 8), num_classes=10))
    assert pace.step(graph, 10) == pytest.approx(1e-4 * sum(1 for _ in graph.calls()) + 1e-8 * graph.macs)
