"""Writing an exported network's folder: all of it or nothing, and only what was checked."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import ExportError, nearest
from nas.net.render import Head
from nas.space.spec import Spec

if TYPE_CHECKING:
    from nas.export.batch import Batch
    from nas.export.latency import Measuring
    from nas.measure.latency import Latency

FORMATS = ("py", "safetensors", "onnx", "pt2")
"""What ``formats`` may list. ``py`` is always written: the others are made from it."""

_KNOWN = (
    "network.py", "weights.pt", "architecture.yaml", "metrics.json", "cell.svg", "requirements.txt", "test_network.py",
    "test_network.pt", "weights.safetensors", "network.onnx", "network.pt2",
)  # fmt: skip
_CACHES = ("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written, and for every further format how far it is from the source's own outputs.

    ``latencies`` are by format, a text is why one was refused. ``right``: on how many of the stored images the network is right,
    and of how many; None where none are stored.
    """

    folder: Path
    files: tuple[Path, ...]
    checks: Mapping[str, str]
    latencies: Mapping[str, Latency | str]
    right: tuple[int, int] | None


def parse_formats(text: str | None) -> tuple[str, ...]:
    """The formats of ``formats=py,onnx``. Raises ExportError for an unknown one."""
    formats = tuple(dict.fromkeys(part.strip() for part in (text or "py").split(",") if part.strip()))
    for name in formats:
        if name not in FORMATS:
            raise ExportError("unknown format", got=name, expected="one of " + ", ".join(FORMATS), hint=nearest(name, FORMATS))
    return formats


def export_folder(
    spec: Spec, out: Path, *, head: Head, metrics: Mapping[str, Any], weights: Path | None = None,
    formats: Sequence[str] = ("py",), batch: Batch | None = None, measuring: Measuring | None = None,
) -> Exported:  # fmt: skip
    """Write a network at the size of its page; the source's outputs are first shown to be the searched network's, bit by bit.

    Where there are ``weights``, a ``batch`` of labelled images goes into the test. With ``measuring`` every format is measured;
    a refused measurement is told, and prevents nothing. Raises ExportError when the folder holds other files or cannot be
    written, when the network cannot be written in one of the formats, or when an output is not the same.
    """
    from nas.export.writing import Writing

    _refuse_others(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise _unwritable(out, error) from None
    try:
        writing = Writing(spec, made, head, weights, formats)
        right, checks = writing.prove(batch), writing.further()
        latencies = {} if measuring is None else writing.measure(measuring)
        writing.describe(metrics, checks, latencies, right)
        files = _move(made, out)
    except OSError as error:
        raise _unwritable(out, error) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return Exported(folder=out, files=files, checks=checks, latencies=latencies, right=right)


def _unwritable(out: Path, error: OSError) -> ExportError:
    return ExportError("the folder cannot be written", where=str(out), got=error.strerror, hint="Choose another with out=DIR.")


def _refuse_others(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ExportError("this is a file, not a folder", where=str(out), hint="Choose another with out=DIR.")
    if out.exists() and any(p.name not in _KNOWN + _CACHES for p in out.iterdir()):
        raise ExportError("the folder holds other files", where=str(out), hint="Choose another with out=DIR.")


def _move(made: Path, out: Path) -> tuple[Path, ...]:
    """The finished files to their place; what an earlier export left is gone."""
    out.mkdir(exist_ok=True)
    for name in _KNOWN:
        (out / name).unlink(missing_ok=True)
    names = [name for name in _KNOWN if (made / name).exists()]
    for name in names:
        (made / name).replace(out / name)
    return tuple(out / name for name in names)
