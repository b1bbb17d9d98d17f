"""The numbers that candidates are judged by, and their units."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Literal

from nas.errors import UsageError, nearest

Direction = Literal["maximize", "minimize"]
Metrics = Mapping[str, float]

_TIMES = {"ms": Fraction(1), "us": Fraction(1, 1000), "s": Fraction(1000)}
_COUNTS = {"": Fraction(1), "K": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9)}
_BYTES = {word + unit: Fraction(base**power) for base, unit in ((1000, "B"), (1024, "iB"))
          for power, word in enumerate(("", "K", "M", "G")) if power or unit == "B"}  # fmt: skip
_JOULES = {"mJ": Fraction(1), "J": Fraction(1000)}
_FRACTIONS = {"": Fraction(1), "%": Fraction(1, 100)}

_NUMBER = re.compile(r"(\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3})?|\.\d+)\s*([A-Za-zµ%]*)")


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that a candidate is judged by. Values are stored in ``unit``; ``units`` are factors to it. ``label``: its name on
    the axis of a picture."""

    name: str
    direction: Direction
    unit: str
    units: Mapping[str, Fraction]
    example: str
    label: str

    def parse(self, text: str) -> float:
        """The value of a text such as "3ms", "1.5M" or "90%"; a bare number is in ``unit``. Raises UsageError."""
        match = _NUMBER.fullmatch(text.strip())
        factor = self.units.get(_spelt(match[2], self.units) if match[2] else self.unit) if match else None
        value = _scaled(match[1], factor) if match and factor else math.inf
        if value == math.inf:
            known = ", ".join(filter(None, self.units))
            raise UsageError(f"not a value of {self.name}", got=text,
                             expected=f"a number such as {self.example} (units: {known})")  # fmt: skip
        if self.units is _FRACTIONS and value > 1:
            raise UsageError(f"{self.name} is a fraction of 1", got=text, expected=self.example)
        return value

    def format(self, value: float) -> str:
        """``value`` in the largest unit that says it exactly; ``parse`` gives the same number back."""
        for word, factor in sorted(self.units.items(), key=lambda item: -item[1]):
            number = f"{value / float(factor):.6g}"
            if value >= factor and "e" not in number and _scaled(number, factor) == value:
                return number + word
        return f"{value!r}{self.unit}"


def _scaled(number: str, factor: Fraction) -> float:
    """The float nearest to the number times the factor: rounded once (92.1 % is 0.921). Infinite if too large."""
    try:
        return float(Fraction(Decimal(number)) * factor)
    except OverflowError:
        return math.inf


def _spelt(word: str, units: Mapping[str, Fraction]) -> str:
    """The unit meant by a word in other letters (k, mb, µs), if there is exactly one."""
    same = [unit for unit in units if unit.lower() == word.lower().replace("µ", "u")]
    return same[0] if len(same) == 1 else word


METRICS: Mapping[str, Metric] = MappingProxyType({
    metric.name: metric
    for metric in (
        Metric("accuracy", "maximize", "", _FRACTIONS, "0.9 or 90%", "validation accuracy"),
        Metric("latency", "minimize", "ms", _TIMES, "3ms", "latency"),
        Metric("num_params", "minimize", "", _COUNTS, "1M", "parameters"),
        Metric("macs", "minimize", "", _COUNTS, "300M", "multiply-adds"),
        Metric("memory", "minimize", "B", _BYTES, "200MB", "memory"),
        Metric("weight_bytes", "minimize", "B", _BYTES, "10MB", "weights"),
        Metric("latency_p95", "minimize", "ms", _TIMES, "3ms", "95th percentile of latency"),
        Metric("throughput", "maximize", "", _COUNTS, "2K", "images a second"),
        Metric("energy", "minimize", "mJ", _JOULES, "5mJ", "energy of an image"),
    )
})  # fmt: skip
"""Every metric by name: accuracy is a fraction, latencies in ms, parameters and multiply-adds counts, memory and weights in
bytes, throughput in images/s, energy in mJ for one image."""


def metric(name: str) -> Metric:
    """The metric of that name. Raises UsageError with the nearest one."""
    if (found := METRICS.get(name)) is None:
        expected = "one of " + ", ".join(METRICS)
        raise UsageError("unknown metric", got=name, expected=expected, hint=nearest(name, METRICS))
    return found
