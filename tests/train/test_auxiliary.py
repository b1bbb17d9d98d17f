from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nas import Size, build, load_architecture, lower
from nas.errors import TrainError
from nas.train import Dataset, Recipe, fit, seed_everything
from nas.train.auxiliary import AuxiliaryHead, WithAuxiliary, try_network, with_auxiliary
from tests.net.nets import lowered

CONV = {"op": "conv_bn_act", "kernel_size": 3, "out_channels": 6}


def tiny() -> nn.Module:
    layers = [CONV, {**CONV, "stride": 2}, CONV, "global_avg_pool", "classifier"]
    with seed_everything(0):
        return build(lowered(*layers, size=Size(input=(1, 8, 8), num_classes=10)))


def test_it_reads_the_second_reduction_of_a_published_network() -> None:
    model = build(lower(load_architecture("darts_v2_cifar"), Size(width=0.1)))
    wrapped = with_auxiliary(model, try_network(model, torch.zeros(2, 3, 32, 32)), 10)
    assert isinstance(wrapped, WithAuxiliary)
    assert wrapped.layer == "reduce2"
    logits, auxiliary = wrapped.train()(torch.randn(2, 3, 32, 32))
    assert logits.shape == auxiliary.shape == (2, 10)
    assert torch.is_tensor(wrapped.eval()(torch.randn(2, 3, 32, 32)))


@pytest.mark.parametrize("side", [2, 3, 7, 8, 14, 28])
def test_the_head_takes_maps_of_any_side(side: int) -> None:
    assert AuxiliaryHead(5, 7)(torch.randn(2, 5, side, side)).shape == (2, 7)


def test_the_head_changes_the_training_and_not_the_network(few_digits: Dataset) -> None:
    nets = [tiny() for _ in range(3)]
    keys = list(nets[0].state_dict())
    recipe = Recipe(epochs=2, batch_size=32, aux_weight=0.4)
    results = [fit(nets[0], few_digits, recipe), fit(nets[1], few_digits, recipe),
               fit(nets[2], few_digits, Recipe(epochs=2, batch_size=32))]  # fmt: skip
    assert results[0].last.train_loss == results[1].last.train_loss > results[2].last.train_loss
    assert list(nets[0].state_dict()) == keys
    assert all(torch.equal(a, b) for a, b in zip(nets[0].state_dict().values(), nets[1].state_dict().values(), strict=True))
    assert not any(m._forward_hooks for m in nets[0].modules())


def test_a_network_with_its_own_head_gets_no_second() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
            x = x.flatten(1)
            return (self.a(x), self.b(x)) if self.training else self.a(x)

    own = Own()
    trial = try_network(own, torch.zeros(2, 1, 2, 2))
    assert trial.two_outputs
    assert not trial.unused
    assert with_auxiliary(own, trial, 2) is own


def test_a_network_without_maps_stays_alone() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    assert with_auxiliary(net, try_network(net, torch.zeros(2, 1, 2, 2)), 2) is net


def test_the_trial_leaves_no_trace_and_sees_unused_weights() -> None:
    net = tiny()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert not try_network(net, torch.randn(2, 1, 8, 8)).unused
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    net.register_parameter("left_out", nn.Parameter(torch.zeros(1)))
    assert try_network(net, torch.randn(2, 1, 8, 8)).unused


def test_images_that_do_not_fit_are_told() -> None:
    with pytest.raises(TrainError, match="does not take images of this size"):
        try_network(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(2, 1, 3, 3))
