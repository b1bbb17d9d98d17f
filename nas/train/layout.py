"""Channels-last memory format, and what has to be kept out of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

FEW_CHANNELS = 16
"""oneDNN's block of input channels in float32 with AVX-512."""


def in_format(images: Tensor, channels_last: bool) -> Tensor:
    """A batch or a convolution's weight, in channels-last memory format where asked."""
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images


class ChannelsLast:
    """Gives all weights of a model channels-last format, to be trained in; :meth:`remove` ends what was put around layers.

    Strided 1x1 convolutions of few channels keep the plain format: on a CPU, with channels last and several threads, the
    gradient of their weight is written past its end (oneDNN issue 6035, torch 2.13), and the process crashes.
    """

    def __init__(self, model: nn.Module) -> None:
        spared = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d) and _crashes(layer)]
        kept = {id(layer.weight) for layer in spared}
        for weight in model.parameters():
            weight.data = in_format(weight.data, weight.ndim == 4 and id(weight) not in kept)
        self._hooks: list[RemovableHandle] = []
        for layer in spared:
            self._hooks += [layer.register_forward_pre_hook(_enter), layer.register_forward_hook(_leave)]

    def remove(self) -> None:
        """Take the hooks off the model."""
        for hook in self._hooks:
            hook.remove()


def _crashes(layer: nn.Conv2d) -> bool:
    return (layer.kernel_size == (1, 1) and max(layer.stride) > 1 and layer.in_channels // layer.groups < FEW_CHANNELS
            and layer.weight.device.type == "cpu")  # fmt: skip


def _enter(layer: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (given[0].contiguous(), *given[1:])


def _leave(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return in_format(output, True)
