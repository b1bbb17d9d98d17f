"""The references that timings are paired with, and the record of how long they take in quiet times."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor, nn

from nas.errors import MeasureError

REFERENCE_SHAPE = (3, 32, 32)


class SepConv(nn.Sequential):
    """ReLU, depthwise and pointwise convolution, batch norm, twice."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
        layers: list[nn.Module] = []
        for channels, step in ((in_channels, stride), (out_channels, 1)):
            depthwise = nn.Conv2d(channels, channels, kernel_size, step, kernel_size // 2, groups=channels, bias=False)
            pointwise = nn.Conv2d(channels, out_channels, 1, bias=False)
            layers += [nn.ReLU(), depthwise, pointwise, nn.BatchNorm2d(out_channels)]
        super().__init__(*layers)


class Sum(nn.Module):
    """The sum of two branches."""

    def __init__(self, left: nn.Module, right: nn.Module) -> None:
        super().__init__()
        self.left, self.right = left, right

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.left(x) + self.right(x)
        return out


class Reference(nn.Sequential):
    """A reference of this depth; another machine builds it by its ``source``, from the same version of nas."""

    def __init__(self, depth: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.depth = depth

    @property
    def source(self) -> str:
        """As every source of a network: a file with ``build()``."""
        return f"from nas.measure.reference import reference_net\n\n\ndef build():\n    return reference_net({self.depth})\n"


DEPTHS = (1, 4)
"""Blocks a stage of the two references, which take about 1 and 3 ms on a core.

The small one stays in the nearest caches and so does not feel what slows networks of 10 ms: paired with it, those differed
1.6 times as much from hour to hour. Networks of 1 ms beside a foreign process differed twice as much when paired with the
large one.
"""


def reference_net(depth: int = DEPTHS[0]) -> Reference:
    """A convolutional network of fixed weights, input (3, 32, 32): the mix that cells are made of, ``depth`` times.

    Foreign load slows convolutions, depthwise convolutions, pooling and dispatch by different factors. Of references
    made of one of them each, and of this mix, the mix followed the slowdown of random networks best.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)]
        for _ in range(depth):
            layers += [SepConv(16, 16, 3, 1), Sum(SepConv(16, 16, 5, 1), nn.AvgPool2d(3, 1, 1))]
        layers.append(SepConv(16, 32, 3, 2))
        for _ in range(depth):
            layers += [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), Sum(SepConv(32, 32, 3, 1), nn.MaxPool2d(3, 1, 1))]
        return Reference(depth, *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)).eval()


class Anchors:
    """Quiet seconds of the reference by conditions; the unit that makes ratios of different hours into milliseconds.

    Kept in memory, and in ``folder/latency_reference.json`` when a folder is given: whoever measures with the same
    folder, in whatever process, then uses the same unit. A value once recorded stays: changing it would silently
    shift every figure measured from then on. ``Latency.relative`` does not depend on it.
    """

    FILE = "latency_reference.json"

    def __init__(self, folder: Path | str | None = None) -> None:
        self._path = Path(folder) / self.FILE if folder is not None else None
        self._known: dict[str, float] = {}

    def get(self, key: str) -> float | None:
        """Quiet seconds under the conditions ``key``, or None when they were never recorded."""
        if key not in self._known and self._path is not None and self._path.exists():
            self._known |= _read(self._path)
        return self._known.get(key)

    @property
    def known(self) -> dict[str, float]:
        """All quiet seconds by conditions."""
        if self._path is not None and self._path.exists():
            self._known |= _read(self._path)
        return dict(self._known)

    def record(self, key: str, seconds: float) -> float:
        """Enter a calibration, unless another process was first; the value that holds from now on."""
        if self._path is None:
            return self._known.setdefault(key, seconds)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_suffix(".lock")):
            self._known = {key: seconds} | self._known | (_read(self._path) if self._path.exists() else {})
            draft = self._path.with_suffix(".part")
            draft.write_text(json.dumps(self._known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            os.replace(draft, self._path)
        return self._known[key]


def _read(path: Path) -> dict[str, float]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MeasureError(f"the reference's record cannot be read: {error}", where=str(path)) from error
    if not isinstance(content, Mapping) or not all(isinstance(v, float) and v > 0 for v in content.values()):
        raise MeasureError("the reference's record is damaged", where=str(path), expected="seconds by conditions",
                           hint="Delete the file; figures measured before it keep their own unit.")  # fmt: skip
    return dict(content)
