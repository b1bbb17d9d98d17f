"""The test that an exported folder carries: the same network elsewhere, in a process without this package."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

TEST, REFERENCE = "test_network.py", "test_network.pt"


def fill(network: nn.Module) -> None:
    """Fixed weights of a usual scale, the same on every machine, for a network that comes without trained ones."""
    import torch

    with torch.no_grad():
        for number, (name, value) in enumerate(sorted(network.state_dict().items())):
            if value.dim() > 1 or "bias" in name.rpartition(".")[2]:
                wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 12.9898 + number) * 43758.5453
                noise = (2 * (wave - wave.floor()) - 1).view(value.shape)
                value.copy_(noise * (3 / value[0].numel()) ** 0.5 if value.dim() > 1 else noise / 10)


_FILL = inspect.getsource(fill).replace("    import torch\n\n", "")

_START = '''"""Proves this folder's network: the same outputs on a stored input, the same number of parameters{what}.

Run `python {test}` or pytest here. It needs torch alone; the two environments that are compared are printed.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from unittest import mock

import torch
from torch import nn

STORED = Path(__file__).with_suffix(".pt")
TOLERANCE = {{torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}}  # of the largest output

'''

_TRAINED = '''
def load() -> nn.Module:
    """The network with its weights."""
    with mock.patch.dict(sys.modules, {"nas": None}):  # the network must not need what exported it
        from network import build

    return build(pretrained=str(STORED.with_name("weights.pt"))).eval()

'''

_FILLED = f'''
{_FILL}

def load() -> nn.Module:
    """The network with the fixed weights that the stored output was made with: it comes without trained ones."""
    with mock.patch.dict(sys.modules, {{"nas": None}}):  # the network must not need what exported it
        from network import build

    network = build()
    fill(network)
    return network.eval()

'''

_OUTPUTS = '''
def test_same_number_of_parameters() -> None:
    stored = torch.load(STORED, weights_only=True)
    assert sum(p.numel() for p in load().parameters()) == stored["num_params"]


def test_same_outputs() -> None:
    stored = torch.load(STORED, weights_only=True)
    with torch.inference_mode():
        output = load()(stored["input"])
    here = {"python": platform.python_version(), "torch": str(torch.__version__), "platform": platform.platform()}
    largest = float((output - stored["output"]).abs().max())
    allowed = TOLERANCE[output.dtype] * float(stored["output"].abs().max())
    print(f"made with: {stored['made_with']}")
    print(f"run with:  {here}")
    print(f"largest difference {largest:.3g}, allowed {allowed:.3g}")
    assert output.shape == stored["output"].shape
    assert largest <= allowed

'''

_ACCURACY = '''
def test_same_accuracy() -> None:
    """An image may change sides only where its two best classes are nearer to each other than the tolerance lets them move."""
    stored = torch.load(STORED, weights_only=True)
    with torch.inference_mode():
        output = load()(stored["images"])
    right = output.argmax(1) == stored["labels"]
    first, second = output.topk(2).values.unbind(1)
    tied = first - second <= 2 * TOLERANCE[output.dtype] * output.abs().max()
    print(f"right on {int(right.sum())} of {len(right)} images of the validation split, {int(stored['right'].sum())} at export")
    print(f"images that the tolerance could turn: {int(tied.sum())}")
    assert not ((right != stored["right"]) & ~tied).any()

'''


def proof(*, trained: bool, accuracy: bool) -> str:
    """The test's source. ``trained``: there are weights; ``accuracy``: labelled images are stored too."""
    what = ",\nthe same accuracy on stored images of the validation split" * accuracy
    parts = [_START.format(test=TEST, what=what), _TRAINED if trained else _FILLED, _OUTPUTS, _ACCURACY * accuracy]
    tests = ["test_same_number_of_parameters", "test_same_outputs", *["test_same_accuracy"] * accuracy]
    calls = "".join(f"    {test}()\n" for test in tests)
    return "".join(parts) + f'\nif __name__ == "__main__":\n{calls}    print("the network is the one that was exported")\n'
