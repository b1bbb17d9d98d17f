from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.errors import TrainError
from nas.train import Dataset, evaluate


class Lookup(nn.Module):
    """Always answers class 3."""

    def forward(self, x: Tensor) -> Tensor:
        return F.one_hot(torch.full((len(x),), 3), 10).float()


def test_accuracy_and_loss_by_hand(digits: Dataset) -> None:
    accuracy, loss = evaluate(Lookup(), digits.validation, batch_size=7)
    share = float((digits.validation.labels == 3).float().mean())
    wrong = float(torch.tensor(9 + 2.718281828).log())
    assert accuracy == pytest.approx(share, abs=1e-6)
    assert loss == pytest.approx(wrong - share, abs=1e-5)


def test_batch_size_does_not_matter(digits: Dataset, make_net: Callable[..., nn.Module]) -> None:
    net = make_net()
    assert evaluate(net, digits.validation, batch_size=5) == pytest.approx(evaluate(net, digits.validation), rel=1e-5)


def test_model_is_left_as_it_was(digits: Dataset, make_net: Callable[..., nn.Module]) -> None:
    net = make_net().train()
    net[1].eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    evaluate(net, digits.validation)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert [net.training, net[0].training, net[1].training] == [True, True, False]


def test_bfloat16_is_close(digits: Dataset, make_net: Callable[..., nn.Module]) -> None:
    net = make_net()
    exact = evaluate(net, digits.validation)[1]
    assert evaluate(net, digits.validation, amp="bfloat16")[1] == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize(("net", "got"), [(nn.Identity(), r"\(256, 1, 8, 8\)"), (nn.Flatten(), r"\(256, 64\)")])
def test_wrong_output_shape(digits: Dataset, net: nn.Module, got: str) -> None:
    with pytest.raises(TrainError, match=rf"tensor \(N, 10\); got {got}"):
        evaluate(net, digits.validation)
