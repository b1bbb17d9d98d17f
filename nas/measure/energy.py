"""Energy of a forward pass, where the platform counts it: RAPL for processors, NVML for NVIDIA's GPUs.

Counters tell of a whole processor package or GPU, with what it needs when idle and what others do on it; so the network
runs back to back for seconds, alone (take ``device_lock``), and the figure is what the package needed meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Unpack

import torch
from torch import nn

from nas.errors import MeasureError
from nas.measure.conditions import Conditions, Model, Options
from nas.measure.device import find_device, quiet
from nas.measure.fold import fold_batch_norms
from nas.measure.onnx import optional
from nas.measure.protocol import Between

Joules = Callable[[], float]
"""Joules since the counter was made."""

POWERCAP = Path("/sys/class/powercap")

SECONDS = {"cpu": 1.0, "cuda": 3.0}
"""How long a network runs: RAPL's counters are renewed every millisecond, NVML's every 20 to 100."""


def energy_counter(device: torch.device) -> Joules:
    """A counter of the device's energy. Raises MeasureError saying why there is none."""
    return _nvml(device) if device.type == "cuda" else _rapl(POWERCAP)


def measure_energy(model: Model, shape: tuple[int, ...], *, device: str = "cpu", between: Between = bool,
                   **options: Unpack[Options]) -> float:  # fmt: skip
    """Joules of one forward pass of a whole batch, under the conditions of :func:`nas.measure.latency.measure_latency`.

    ``between`` may end it early. Raises MeasureError where nothing counts energy, or where the counter did not move.
    """
    counter = energy_counter(find_device(device))
    conditions = Conditions.of(device=device, **options)
    if options.get("fold_batch_norm") and isinstance(model, nn.Module):
        model = fold_batch_norms(model)
    with quiet(conditions.device, conditions.threads, conditions.cores, conditions.runtime.inline) as timer:
        run = conditions.prepare(model, shape, conditions.batch, conditions.runtime)
        repeats = max(1, round(0.05 / timer(run, 3)[0]))
        runs, start, before = 0, time.perf_counter(), counter()
        while time.perf_counter() - start < SECONDS[conditions.device.type]:
            between()
            timer(run, repeats)
            runs += repeats
        used = counter() - before
    if not used > 0:
        raise MeasureError("the energy counter stood still", got=f"{runs} runs", where=str(conditions.device))
    return used / runs


def _rapl(folder: Path) -> Joules:
    """All packages of the processor; their counters begin again at 0 when they are full."""
    zones = [zone for zone in sorted(folder.glob("*-rapl:*")) if zone.name.count(":") == 1]
    if not zones:
        raise MeasureError("energy cannot be measured here: the processor's counters (RAPL) are not there", where=str(folder),
                           hint="They are missing in most virtual machines. Leave the objective energy out.")  # fmt: skip

    def read() -> list[int]:
        try:
            return [int((zone / "energy_uj").read_text()) for zone in zones]
        except (OSError, ValueError) as error:
            raise MeasureError(f"energy cannot be measured here: {getattr(error, 'strerror', None) or error}",
                               where=str(zones[0] / "energy_uj"),
                               hint="Let an administrator make the file readable.") from None  # fmt: skip

    spans = [_span(zone) for zone in zones]
    last, total = read(), 0

    def joules() -> float:
        nonlocal last, total
        now = read()
        total += sum((new - old) % span for new, old, span in zip(now, last, spans, strict=True))
        last = now
        return total / 1e6

    return joules


def _span(zone: Path) -> int:
    try:
        return int((zone / "max_energy_range_uj").read_text()) + 1
    except (OSError, ValueError):
        return 1 << 63


def _nvml(device: torch.device) -> Joules:
    """The GPU's counter in millijoules, of the Volta generation and later."""
    nvml = optional("pynvml", "pip install nvidia-ml-py")
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        first = nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError as error:
        raise MeasureError(f"energy cannot be measured here: {error}", where=str(device)) from None
    return lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) - first) / 1000
