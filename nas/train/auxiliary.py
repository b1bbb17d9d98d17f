"""An auxiliary head for the training only: a second classifier on an inner map, whose loss helps the layers before it.

It wraps the network and is dropped afterwards: neither the network's weights nor its export know of it.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.errors import TrainError
from nas.net.build import Network
from nas.train.recipe import Recipe

PLACE = 2 / 3
"""How far into the network's maps the head reads: at the second reduction of NASNet and DARTS."""


class AuxiliaryHead(nn.Module):
    """The head of NASNet and DARTS: pooling to 2x2 (5x5 with stride 3 on 8x8), 128 and 768 channels, a classifier.

    Input (N, C, H, W), output (N, num_classes); larger maps leave larger ones, which are averaged at the end.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.narrow = nn.Sequential(nn.Conv2d(in_channels, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU())
        self.mix = nn.Sequential(nn.Conv2d(128, 768, 2, bias=False), nn.BatchNorm2d(768), nn.ReLU())
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        x = F.avg_pool2d(x, 5, stride=3) if min(x.shape[2:]) >= 8 else F.adaptive_avg_pool2d(x, 2)
        logits: Tensor = self.classifier(self.mix(self.narrow(x)).mean((2, 3)))
        return logits


class WithAuxiliary(nn.Module):
    """A network that returns (logits, auxiliary logits) while training: the head reads what a layer of it puts out."""

    def __init__(self, network: nn.Module, layer: str, head: AuxiliaryHead) -> None:
        super().__init__()
        self.network, self.head, self.layer = network, head, layer

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if not self.training:
            logits: Tensor = self.network(x)
            return logits
        maps: list[Tensor] = []
        hook = self.network.get_submodule(self.layer).register_forward_hook(lambda module, inputs, output: maps.append(output))
        try:
            logits = self.network(x)
        finally:
            hook.remove()
        return logits, self.head(maps[0])


class Trial(NamedTuple):
    """What a forward and a backward pass in training mode have shown of a network, on a copy of it.

    ``maps``: layers at the top that put out maps, with their channels, in order. ``unused``: whether the backward pass left
    a weight out.
    """

    two_outputs: bool
    maps: tuple[tuple[str, int], ...]
    unused: bool


def try_network(model: nn.Module, images: Tensor) -> Trial:
    """Run a copy of the network on images (N, C, H, W). Raises TrainError when it does not take them."""
    net, maps = copy.deepcopy(model).train(), list[tuple[str, int]]()

    def note(name: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and min(output.shape[2:]) > 1:
            maps.append((name, output.shape[1]))

    for name, _ in net.wiring if isinstance(net, Network) else ():
        net.get_submodule(name).register_forward_hook(lambda module, inputs, output, name=name: note(name, output))
    try:
        outputs = net(images)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise TrainError("the network does not take images of this size", got="x".join(map(str, images.shape[1:])),
                         expected=f"another size; torch says: {str(error).splitlines()[0]}") from error  # fmt: skip
    two = isinstance(outputs, tuple | list)
    total: Tensor = sum((output.float().sum() for output in outputs), torch.zeros(())) if two else outputs.sum()
    torch.autograd.backward(total)
    return Trial(two, tuple(maps), any(p.grad is None for p in net.parameters() if p.requires_grad))


def with_auxiliary(model: nn.Module, trial: Trial, num_classes: int) -> nn.Module:
    """The network with a head; the network itself when it has one of its own, or has no inner map to read."""
    if trial.two_outputs or not trial.maps:
        return model
    layer, channels = trial.maps[min(round(PLACE * len(trial.maps)), len(trial.maps) - 1)]
    return WithAuxiliary(model, layer, AuxiliaryHead(channels, num_classes))


def prepare(model: nn.Module, recipe: Recipe, shape: tuple[int, int, int], num_classes: int, *,
            parallel: bool) -> tuple[nn.Module, bool]:  # fmt: skip
    """What is trained: the model, with a head where the recipe wants one; and whether a weight takes no part in the loss.

    It is tried on the smallest images that the recipe will show, of the data's ``shape`` at most; where there is nothing
    to learn from that (one size, no head, not ``parallel``), it is not. Raises TrainError as :func:`try_network`.
    """
    channels, *sides = shape
    small = recipe.side_at(0, min(sides))
    if not (recipe.aux_weight or small < min(sides) or parallel):
        return model, False
    device = next(model.parameters(), torch.empty(0)).device
    trial = try_network(model, torch.zeros(2, channels, *([small, small] if small < min(sides) else sides), device=device))
    if not recipe.aux_weight:
        return model, trial.unused or trial.two_outputs
    return with_auxiliary(model, trial, num_classes).to(device), trial.unused
