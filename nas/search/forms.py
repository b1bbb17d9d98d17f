"""Objectives that are products of metrics: the rewards of MnasNet and EfficientNetV2, as text and as numbers.

    accuracy*(latency/3ms)^-0.07                            Tan et al. 2019, MnasNet, arXiv:1807.11626, soft limit
    accuracy*max(1,latency/3ms)^-1                          the same, hard limit (alpha 0, beta -1)
    accuracy*(latency/3ms)^-0.07*(num_params/5M)^-0.05      Tan & Le 2021, EfficientNetV2, arXiv:2104.00298

A product has factors METRIC, (METRIC/LIMIT) or max(1,METRIC/LIMIT), joined by ``*``, each with ``^EXPONENT`` or without.
It is maximised. So a metric that is to be small needs a negative exponent: the other sign is refused as a mistake.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from nas.errors import UsageError, nearest
from nas.search.metrics import METRICS, Metrics


@dataclass(frozen=True, slots=True)
class Factor:
    """A metric, divided by ``limit`` (in the metric's unit) where there is one, and if ``beyond`` not less than 1; to the
    power of ``exponent``."""

    metric: str
    limit: float | None = None
    beyond: bool = False
    exponent: float = 1.0

    def value(self, metrics: Metrics) -> float:
        """NaN where the metric is missing or the power has no real value, infinite where it is too large."""
        base = metrics.get(self.metric, math.nan) / (1.0 if self.limit is None else self.limit)
        try:
            return math.pow(max(1.0, base) if self.beyond and base == base else base, self.exponent)
        except OverflowError:
            return math.inf
        except ValueError:
            return math.inf if base == 0 else math.nan

    def __str__(self) -> str:
        text = self.metric
        if self.limit is not None:
            text = f"{text}/{METRICS[self.metric].format(self.limit)}"
            text = f"max(1,{text})" if self.beyond else f"({text})"
        return text if self.exponent == 1.0 else f"{text}^{repr(self.exponent).removesuffix('.0')}"


def parse_product(text: str) -> tuple[Factor, ...]:
    """The factors of a product. Raises UsageError that says at which character, and what was expected there."""
    reader = _Reader(text)
    factors = [reader.factor()]
    while not reader.at_end():
        reader.take(r"\*", "* and another factor, or the end")
        factors.append(reader.factor())
    return tuple(factors)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def at_end(self) -> bool:
        return not self.text[self.at :].strip()

    def factor(self) -> Factor:
        limit, beyond = None, False
        if self.take(r"max\s*\(", None):
            self.take("1", "max(1,METRIC/LIMIT)")
            self.take(",", "max(1,METRIC/LIMIT)")
            name, limit = self.share()
            beyond = True
        elif self.take(r"\(", None):
            name, limit = self.share()
        else:
            name = self.metric()
        return Factor(name, limit, beyond, self.exponent(name))

    def exponent(self, name: str) -> float:
        """What stands behind ^, or 1; of the sign that makes the product large where the metric is good."""
        start = self.at
        number = "1"
        if self.take(r"\^", None):
            number = self.take(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?![\w.])", "an exponent such as -0.07")
        exponent, wanted = float(number), 1 if METRICS[name].direction == "maximize" else -1
        if exponent * wanted <= 0:
            size, side = ("large", "above") if wanted > 0 else ("small", "below")
            example = f"{wanted * (abs(exponent) or 1):g}"
            raise self.error(f"a product is made large, and {name} is to be {size}",
                             f"an exponent {side} 0, such as ^{example}", start)  # fmt: skip
        return exponent

    def share(self) -> tuple[str, float]:
        """METRIC/LIMIT and the bracket that ends it."""
        name = self.metric()
        self.take("/", f"/ and a limit such as {METRICS[name].example}")
        start, example = self.at, METRICS[name].example
        text = self.take(r"[^()*^,]+", f"a limit such as {example}")
        try:
            limit = METRICS[name].parse(text)
        except UsageError as error:
            raise self.error(error.message, error.expected or example, start, text) from None
        if limit <= 0:
            raise self.error("nothing can be divided by this limit", f"more than 0, such as {example}", start, text)
        self.take(r"\)", "a closing bracket")
        return name, limit

    def metric(self) -> str:
        start = self.at
        name = self.take(r"[A-Za-z_]\w*", "METRIC, (METRIC/LIMIT) or max(1,METRIC/LIMIT)")
        if name not in METRICS:
            raise self.error("unknown metric", "one of " + ", ".join(METRICS), start, name, nearest(name, METRICS))
        return name

    def take(self, pattern: str, expected: str | None) -> str:
        """What the pattern matches next, without spaces around; where it does not: "", or an error if it was expected."""
        match = re.compile(rf"\s*({pattern})\s*").match(self.text, self.at)
        if match is None:
            if expected is None:
                return ""
            raise self.error("not an objective", expected, self.at)
        self.at = match.end()
        return match[1]

    def error(self, message: str, expected: str, at: int, got: str | None = None, hint: str | None = None) -> UsageError:
        at += len(self.text[at:]) - len(self.text[at:].lstrip())
        return UsageError(message, where=f"character {at + 1} of {self.text}", expected=expected,
                          got=got or self.text[at:] or "the end", hint=hint)  # fmt: skip
