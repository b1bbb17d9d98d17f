"""Plain text for people: aligned columns and readable numbers, without a library to import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows in aligned columns; numbers and columns of numbers are set to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max([len(head), *(len(row[i]) for row in cells)]) for i, head in enumerate(heads)]
    right = [bool(cells) and all(_is_number(row[i]) for row in cells) for i in range(len(heads))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()

    return "\n".join([line(heads), line(["-" * w for w in widths]), *map(line, cells)])


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell in {"", "-"}


def big(number: float | None) -> str:
    """A count: exact while it is short, then with its power of ten; None is without end."""
    if number is None:
        return "infinite"
    return f"{number:,}" if number < 10**9 else f"{float(number):.2e}"


def percent(fraction: float | None) -> str:
    """A fraction as a percentage, or a dash."""
    return "-" if fraction is None else f"{100 * fraction:.2f} %"


def count(number: float | None) -> str:
    """A count in K, M or G with three digits, or a dash."""
    if number is None:
        return "-"
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if number >= factor:
            return f"{number / factor:.3g}{unit}"
    return f"{number:g}"


def milliseconds(value: float | None) -> str:
    """A latency, or a dash."""
    return "-" if value is None else f"{value:.3g} ms"


def figure(name: str, value: float) -> str:
    """A metric's value in its unit; a product of metrics is a plain number."""
    match name:
        case "accuracy":
            return percent(value)
        case "latency" | "latency_p95":
            return milliseconds(value)
        case "num_params" | "macs":
            return count(value)
        case "memory" | "weight_bytes":
            return megabytes(value)
        case "throughput":
            return f"{value:.4g}/s"
        case "energy":
            return f"{value:.3g} mJ"
    return f"{value:.4g}"


def megabytes(size: float) -> str:
    """Bytes in units of 1e6, or of 1e3 while they are few."""
    return f"{size / 1e6:.3g} MB" if size >= 1e6 else f"{size / 1e3:.3g} kB"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
