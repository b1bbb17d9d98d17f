"""Throughput of `nas.train.fit` against the plainest hand-written torch loop, on the same tensors and network.

    python benchmarks/training_throughput.py [--device cuda] [--images 512] [--rounds 5] [--channels 16]

Both train the same NASNet-like network (separable convolutions, two reductions) from the same weights for one epoch,
with the same batches of images already on the device. The plain loop slices shuffled float images and does nothing
else: no augmentation, schedule, checks or validation. `fit` crops and flips uint8 images on top. Rounds are
interleaved; the ratio is the median of the rounds' own ratios, so a slow moment of the machine hits both sides.

The ratio counts training alone, as `EpochResult.images_per_s` does. `--same` gives the plain loop all that can be
shared: channels-last memory and the fused optimizer, which leaves the cost of our loop alone.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.train import Augmentation, Dataset, Recipe, Split, fit, seed_everything


class SepConv(nn.Module):
    """ReLU, depthwise, pointwise, batch norm; twice."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for source, step in ((in_channels, stride), (out_channels, 1)):
            depthwise = nn.Conv2d(source, source, kernel_size, step, kernel_size // 2, groups=source, bias=False)
            pointwise = nn.Conv2d(source, out_channels, 1, bias=False)
            layers += [nn.ReLU(), depthwise, pointwise, nn.BatchNorm2d(out_channels)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Cell(nn.Module):
    """Two blocks of two separable convolutions over the last two outputs, concatenated."""

    def __init__(self, before: int, previous: int, channels: int, stride: int, shrink: bool) -> None:
        super().__init__()
        self.enter = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Conv2d(source, channels, 1, step, bias=False), nn.BatchNorm2d(channels))
            for source, step in ((before, 2 if shrink else 1), (previous, 1)))  # fmt: skip
        self.blocks = nn.ModuleList(SepConv(channels, channels, k, stride) for k in (3, 5, 5, 3))

    def forward(self, before: Tensor, previous: Tensor) -> Tensor:
        a, b = self.enter[0](before), self.enter[1](previous)
        return torch.cat([self.blocks[0](a) + self.blocks[1](b), self.blocks[2](a) + self.blocks[3](b)], 1)


class NasNetLike(nn.Module):
    """Stem, then normal, reduction, normal, reduction, normal; 10 classes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.cells = nn.ModuleList()
        before = previous = channels
        shrink, width = False, channels
        for stride in (1, 2, 1, 2, 1):
            width *= stride
            self.cells.append(Cell(before, previous, width, stride, shrink))
            before, previous, shrink = previous, 2 * width, stride == 2
        self.classifier = nn.Linear(previous, 10)

    def forward(self, x: Tensor) -> Tensor:
        before = previous = self.stem(x)
        for cell in self.cells:
            before, previous = previous, cell(before, previous)
        return self.classifier(previous.mean((2, 3)))


def make_data(images: int, device: str) -> Dataset:
    """Random colour images: their content does not change the time."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, 3, 32, 32), generator=generator, dtype=torch.uint8)
    split = Split(images=pixels, labels=torch.randint(10, (images,), generator=generator), num_classes=10,
                  mean=(0.5,) * 3, std=(0.29,) * 3)  # fmt: skip
    tail = Split(images=pixels[:2], labels=split.labels[:2], num_classes=10, mean=split.mean, std=split.std)
    return Dataset(name="random", classes=tuple("0123456789"), train=split, validation=tail, _test=None,
                   augmentation=Augmentation(crop_padding=4, flip=True), fingerprint="random").to(device)  # fmt: skip


def plain_loop(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, *, same: bool) -> float:
    """Images a second of the loop that everyone writes."""
    if same:
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=same)
    model.train()
    synchronise(images.device)
    start = time.perf_counter()
    for index in torch.randperm(len(images), device=images.device).split(recipe.batch_size):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images[index]), labels[index])
        loss.backward()
        optimizer.step()
    synchronise(images.device)
    return len(images) / (time.perf_counter() - start)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--same", action="store_true", help="give the plain loop channels-last and the fused optimizer")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    data = make_data(arguments.images, arguments.device)
    recipe = Recipe(epochs=1, batch_size=arguments.batch_size)
    with seed_everything(0):
        network = NasNetLike(arguments.channels).to(arguments.device)
    images, labels = next(data.train.batches(arguments.images))
    plain, ours = [], []
    for _ in range(arguments.rounds + 1):
        plain.append(plain_loop(copy.deepcopy(network), images, labels, recipe, same=arguments.same))
        ours.append(fit(copy.deepcopy(network), data, recipe, device=arguments.device).last.images_per_s)
    plain, ours = plain[1:], ours[1:]  # the first round warms up

    ratios = sorted(p / o for p, o in zip(plain, ours, strict=True))
    device = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else platform.processor() or "CPU"
    print(f"{device}, {arguments.threads} thread(s) of {os.cpu_count()} cores, torch {torch.__version__}, float32, "
          f"{sum(p.numel() for p in network.parameters())} parameters, {arguments.images} images 3x32x32, "
          f"batch {arguments.batch_size}, {arguments.rounds} rounds")  # fmt: skip
    print(f"plain loop{' (channels last, fused)' if arguments.same else ''}: {statistics.median(plain):.0f} images/s")
    print(f"nas.train.fit: {statistics.median(ours):.0f} images/s")
    print(f"time of fit / time of the plain loop: {statistics.median(ratios):.3f} ({ratios[0]:.3f}..{ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
