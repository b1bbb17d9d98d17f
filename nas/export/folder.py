"""Writing an exported network's folder: all of it or nothing, and only what was checked."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nas.errors import ExportError, nearest
from nas.export.proof import PROOF, REFERENCE, TEST, fill
from nas.net.graph import Graph
from nas.net.lower import lower
from nas.net.render import Head, render
from nas.report.picture import picture
from nas.space.search_space import Architecture
from nas.space.spec import Spec
from nas.space.unparse import to_yaml

if TYPE_CHECKING:
    from torch import nn

FORMATS = ("py", "safetensors", "onnx", "pt2")
"""What ``formats`` may list. ``py`` is always written: the others are made from it."""

SOURCE, PAGE, WEIGHTS, METRICS, REQUIREMENTS = "network.py", "architecture.yaml", "weights.pt", "metrics.json", "requirements.txt"
PICTURE = "cell.svg"
_OTHERS = ("weights.safetensors", "network.onnx", "network.pt2")
_KNOWN = (SOURCE, WEIGHTS, PAGE, METRICS, PICTURE, REQUIREMENTS, TEST, REFERENCE, *_OTHERS)
_CACHES = ("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written, and for every further format how far it is from the source's own outputs."""

    folder: Path
    files: tuple[Path, ...]
    checks: Mapping[str, str]


def parse_formats(text: str | None) -> tuple[str, ...]:
    """The formats of ``formats=py,onnx``. Raises ExportError for an unknown one."""
    formats = tuple(dict.fromkeys(part.strip() for part in (text or "py").split(",") if part.strip()))
    for name in formats:
        if name not in FORMATS:
            raise ExportError("unknown format", got=name, expected="one of " + ", ".join(FORMATS), hint=nearest(name, FORMATS))
    return formats


def export_folder(
    spec: Spec, out: Path, *, head: Head, metrics: Mapping[str, Any], weights: Path | None = None,
    formats: Sequence[str] = ("py",),
) -> Exported:  # fmt: skip
    """Write a network at the size of its page; the source's outputs are first shown to be the searched network's, bit by bit.

    Raises ExportError when the folder holds other files or cannot be written, when the network cannot be written in one of
    the formats, or when an output is not the same.
    """
    _refuse_others(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise _unwritable(out, error) from None
    try:
        checks = _write(spec, made, head, metrics, weights, formats)
        files = _move(made, out)
    except OSError as error:
        raise _unwritable(out, error) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return Exported(folder=out, files=files, checks=checks)


def _unwritable(out: Path, error: OSError) -> ExportError:
    return ExportError("the folder cannot be written", where=str(out), got=error.strerror, hint="Choose another with out=DIR.")


def _refuse_others(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(p.name not in _KNOWN + _CACHES for p in out.iterdir())):
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


def _write(
    spec: Spec, made: Path, head: Head, metrics: Mapping[str, Any], weights: Path | None, formats: Sequence[str]
) -> dict[str, str]:
    import torch

    if weights is None and "safetensors" in formats:
        raise ExportError("there are no trained weights to write as safetensors", hint="Leave safetensors out of formats=.")
    graph = lower(Architecture(spec))
    (made / SOURCE).write_text(render(graph, head), encoding="utf-8")
    network = load_source(made / SOURCE).build()
    if weights is not None:
        _load(network, weights)
        torch.save(network.state_dict(), made / WEIGHTS)
    else:
        fill(network)
    example = torch.randn(2, *graph.inputs[0][1], generator=torch.Generator().manual_seed(0))
    output = check_source(graph, network.eval(), example)
    (made / PAGE).write_text(to_yaml(spec), encoding="utf-8")
    (made / METRICS).write_text(json.dumps(dict(metrics), indent=2) + "\n", encoding="utf-8")
    (made / PICTURE).write_text(picture(graph, spec.name), encoding="utf-8")
    (made / REQUIREMENTS).write_text("torch>=2.6\n", encoding="utf-8")
    (made / TEST).write_text(PROOF, encoding="utf-8")
    stored = {"input": example, "output": output, "num_params": graph.num_params, "made_with": _environment()}
    torch.save(stored, made / REFERENCE)
    checks = _further(graph, network, example, made, formats)
    return checks if weights is not None else {name: f"{text}; holds placeholder weights" for name, text in checks.items()}


def _further(graph: Graph, network: nn.Module, example: Any, made: Path, formats: Sequence[str]) -> dict[str, str]:
    from nas.export import formats as writers

    checks = {}
    if "safetensors" in formats:
        checks["safetensors"] = writers.write_safetensors(network, made / "weights.safetensors")
    if "onnx" in formats:
        checks["onnx"] = writers.write_onnx(graph, network, example, made / "network.onnx")
    if "pt2" in formats:
        checks["pt2"] = writers.write_pt2(graph, network, example, made / "network.pt2")
    return checks


def load_source(path: Path) -> ModuleType:
    """The module of a rendered file: our own source, which data enters as checked literals only."""
    spec = importlib.util.spec_from_file_location("network", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_source(graph: Graph, network: nn.Module, example: Any) -> Any:
    """The rendered network's output, once it is shown to equal the built network's bit by bit. Raises ExportError."""
    import torch

    from nas.net.build import build

    built = build(graph).eval()
    with torch.inference_mode():
        try:
            built.load_state_dict(network.state_dict())
        except RuntimeError as error:
            got = str(error).split("\n")[1].strip()
            raise ExportError("the source's weights have other names than the network's", got=got) from None
        expected, output = built(example), network(example)
    if not torch.equal(expected, output):
        raise ExportError("the source's outputs differ from the network's", got=f"{float((expected - output).abs().max()):.2g}")
    return output.clone()


def _load(network: nn.Module, weights: Path) -> None:
    from pickle import UnpicklingError

    import torch

    try:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError) as error:
        raise ExportError("the weights cannot be loaded", where=str(weights), got=str(error).split("\n")[0]) from None


def _environment() -> dict[str, str]:
    import platform

    import torch

    return {"python": platform.python_version(), "torch": str(torch.__version__), "platform": platform.platform()}
