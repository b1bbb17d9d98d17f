"""Heads: what turns features into one score a class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.ops.modules.activation import make_activation


class RBFClassifier(nn.Module):
    """Minus the squared distance of a vector to a fixed code of every class, in means over the features.

    LeNet-5's last layer (LeCun et al. 1998, section II-B). The codes are -1 and 1 at random, which the paper names beside
    the pictures of characters it drew by hand; they are stored with the weights.
    """

    codes: Tensor

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.empty(num_classes, in_channels).bernoulli_() * 2 - 1)

    def forward(self, x: Tensor) -> Tensor:
        products = F.linear(x, self.codes.to(x.dtype))
        return (2 * products - x.square().sum(-1, keepdim=True)) / x.shape[-1] - 1


class MLPHead(nn.Module):
    """Flattens a map; hidden layers with activation and dropout; a linear layer (AlexNet, VGG)."""

    def __init__(
        self,
        in_channels: int,
        input_size: tuple[int, int],
        num_classes: int,
        hidden_channels: int = 4096,
        depth: int = 2,
        dropout: float = 0.5,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        features = in_channels * input_size[0] * input_size[1]
        layers: list[nn.Module] = [nn.Flatten()]
        for _ in range(depth):
            layers += [nn.Linear(features, hidden_channels), make_activation(activation), nn.Dropout(dropout)]
            features = hidden_channels
        layers.append(nn.Linear(features, num_classes))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class AuxiliaryClassifier(nn.Module):
    """A second classifier on an inner map, for training: ReLU, 5x5 average pooling, 1x1, one convolution of the map.

    NASNet and DARTS; DARTS on ImageNet pools with stride 2 and leaves the last norm out.
    """

    def __init__(
        self,
        in_channels: int,
        input_size: tuple[int, int],
        num_classes: int,
        hidden_channels: int = 128,
        features: int = 768,
        pool_stride: int = 3,
        last_norm: bool = True,
    ) -> None:
        super().__init__()
        self.pool_stride = pool_stride
        size = ((input_size[0] - 5) // pool_stride + 1, (input_size[1] - 5) // pool_stride + 1)
        self.reduce = nn.Conv2d(in_channels, hidden_channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden_channels)
        self.conv = nn.Conv2d(hidden_channels, features, size, bias=False)
        self.bn2 = nn.BatchNorm2d(features) if last_norm else nn.Identity()
        self.classifier = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(F.relu(x), 5, self.pool_stride)
        x = F.relu(self.bn1(self.reduce(x)))
        x = F.relu(self.bn2(self.conv(x)))
        return self.classifier(x.flatten(1))
