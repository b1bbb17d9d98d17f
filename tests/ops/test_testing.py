"""The contract test that users inherit: it passes what is right and catches what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import nas
from nas.ops import Sketch
from nas.ops.testing import OpContract

TESTS = sorted(name for name in vars(OpContract) if name.startswith("test_"))


@pytest.fixture(autouse=True)
def _loaded(my_ops: Path) -> None:
    """The operation of the user's file is known to every test here."""


class TestSqueezedConv(OpContract):
    op = "squeezed_conv"
    words = ({}, {"out_channels": 6, "kernel_size": 5})


class TestConvBn(OpContract):
    op = "conv_bn"


class TestAdd(OpContract):
    op = "add"
    shapes = ((8, 6, 6), (9, 4))


def test_strides_and_sizes_are_tried() -> None:
    tried = [(case.words["stride"], case.shapes[0][1] % 2) for case in TestSqueezedConv().cases()]
    assert {(stride, odd) for stride in (1, 2) for odd in (0, 1)} == set(tried)
    assert len(tried) == 8


class Wrong(nn.Module):
    """Breaks one rule of the contract."""

    def __init__(self, in_channels: int, how: str) -> None:
        super().__init__()
        self.how, self.conv = how, nn.Conv2d(in_channels, in_channels, 1)
        self.unused = nn.Parameter(torch.ones(3)) if how == "unused" else None
        self.hidden = torch.randn(1)

    def forward(self, x: Tensor) -> Tensor:
        match self.how:
            case "nan":
                return self.conv(x) / torch.zeros_like(x)
            case "random":
                return self.conv(x) + torch.rand_like(x)
            case "batch":
                return self.conv(x) - x.mean(0)
            case "hidden":
                return self.conv(x) * self.hidden.to(x.device)
        return self.conv(x)


def sketch(s: Sketch, *, how: str) -> None:
    s.conv(s.channels + (how == "shape"), bias=how != "params")
    s.params(3 * (how == "unused"))


WRONG = {
    "nan": "test_the_output_is_finite", "random": "test_evaluation_is_deterministic", "batch": "test_evaluation_is_deterministic",
    "hidden": "test_the_state_can_be_loaded", "unused": "test_every_parameter_gets_a_gradient",
    "shape": "test_the_sketch_tells_what_the_module_does", "params": "test_the_sketch_tells_what_the_module_does",
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG)
def test_what_is_wrong_is_caught(how: str) -> None:
    nas.op("wrong", sketch=sketch)(Wrong)

    class Contract(OpContract):
        op = "wrong"
        words = ({"how": how},)

    with pytest.raises(AssertionError):
        getattr(Contract(), WRONG[how])()


def test_what_is_right_passes() -> None:
    nas.op("wrong", sketch=sketch)(Wrong)

    class Contract(OpContract):
        op = "wrong"
        words = ({"how": "not at all"},)

    assert len(TESTS) == 5
    for name in TESTS:
        getattr(Contract(), name)()
