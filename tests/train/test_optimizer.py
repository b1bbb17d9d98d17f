from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nas.errors import TrainError
from nas.train import Recipe
from nas.train.optimizer import Average, make_optimizer


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop"])
def test_only_weights_of_two_dimensions_decay(name: str) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    groups = make_optimizer(net, Recipe(optimizer=name, weight_decay=0.1)).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.1, 2), (0.0, 4)]


def test_frozen_weights_are_left_out() -> None:
    net = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(TrainError, match="no trainable weights"):
        make_optimizer(net, Recipe())
    net.bias.requires_grad_(True)
    assert sum(len(group["params"]) for group in make_optimizer(net, Recipe()).param_groups) == 1


def test_sgd_step_is_nesterov() -> None:
    """Two steps by hand: v = m v + g, w -= lr (g + m v)."""
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(1.0)
    optimizer = make_optimizer(net, Recipe(learning_rate=0.1, momentum=0.5, weight_decay=0.0))
    for _ in range(2):
        net.weight.grad = torch.ones(1, 1)
        optimizer.step()
    assert net.weight.item() == pytest.approx(1 - 0.1 * (1 + 0.5) - 0.1 * (1 + 0.5 * 1.5))


def test_rmsprop_step_is_that_of_tensorflow() -> None:
    """By hand: v from 1, v = .9 v + .1 g^2, m = .5 m + lr g / sqrt(v + .001) at that step's rate, w -= m; decay is part of g."""
    net = nn.Linear(1, 1)
    net.weight.data.fill_(1.0)
    optimizer = make_optimizer(net, Recipe(optimizer="rmsprop", momentum=0.5, weight_decay=0.1))
    weight, square, moved = 1.0, 1.0, 0.0
    for rate in (0.1, 0.02):
        optimizer.param_groups[0]["lr"] = rate
        net.weight.grad = torch.full((1, 1), 0.2)  # the bias has none
        gradient = 0.2 + 0.1 * weight
        square = 0.9 * square + 0.1 * gradient**2
        moved = 0.5 * moved + rate * gradient / math.sqrt(square + 1e-3)
        weight -= moved
        assert optimizer.step(lambda: 3.0) == 3.0
        assert net.weight.item() == pytest.approx(weight)


def test_average_follows_quickly_at_first_then_by_its_decay() -> None:
    net = nn.BatchNorm1d(1)
    average = Average(net, 0.2)
    net.weight.data.fill_(2.0)
    assert net.num_batches_tracked is not None
    net.num_batches_tracked.fill_(7)
    average.update()  # decay 1/10
    assert average.model.weight.item() == pytest.approx(0.1 * 1 + 0.9 * 2)
    average.update()  # decay 2/11
    assert average.model.weight.item() == pytest.approx(2 - 2 / 11 * (2 - 1.9))
    average.update()  # decay 0.2
    assert average.model.weight.item() == pytest.approx(2 - 0.2 * 2 / 11 * 0.1)
    assert int(average.model.num_batches_tracked) == 7
