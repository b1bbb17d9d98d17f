"""Networks to render, and running rendered sources where the package cannot be imported."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import torch

from nas.net.build import build
from nas.net.graph import Graph, Size
from nas.net.lower import lower
from nas.net.render import Head, render
from nas.space.library import bundled_architectures, bundled_spaces, load_space
from nas.space.parse import parse_page
from nas.space.search_space import Architecture

ROOT = Path(__file__).parents[2]

CLEAN = """
import importlib.util, sys
from pathlib import Path
sys.modules["nas"] = None
import torch
torch.set_num_threads(1)
for source in sorted(Path(sys.argv[1]).glob("*.py")):
    spec = importlib.util.spec_from_file_location(source.stem, source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    stored = torch.load(source.with_suffix(".pt"), weights_only=True)
    network = module.build().eval()
    keys, wanted = set(network.state_dict()), set(stored["state"])
    assert keys == wanted, (source.stem, sorted(keys ^ wanted)[:5])
    network.load_state_dict(stored["state"])
    with torch.inference_mode():
        assert torch.equal(network(stored["input"]), stored["output"]), source.stem
    print(source.stem)
"""
"""Loads every source of a folder and compares it with what is stored beside it: names of weights, and outputs bit by bit."""


def small(spec_name: str, architecture: Architecture) -> Size:
    """A size at which the network computes in a moment, and still has its structure."""
    for size in (Size(width=0.25, input=(3, 32, 32)), Size(width=0.25, input=(3, 64, 64)), Size(width=0.5), Size()):
        try:
            lower(architecture, size)
        except Exception:
            continue
        return size
    raise AssertionError(f"{spec_name} cannot be lowered")


def sampled(count: int) -> Iterator[tuple[str, Graph]]:
    """``count`` random networks, evenly over all bundled spaces."""
    spaces = list(bundled_spaces())
    for index in range(count):
        name = spaces[index % len(spaces)]
        architecture = load_space(name).sample(random.Random(index))
        yield f"{name}_{index}", lower(architecture, small(name, architecture))


@cache
def published() -> dict[str, Architecture]:
    """Every published network by name."""
    return {name: Architecture(parse_page(page)) for name, page in bundled_architectures().items()}


def store(folder: Path, name: str, graph: Graph) -> str:
    """Write a network's source, and beside it the built network's weights, an input and the output; the source."""
    source = render(graph, Head(title=name))
    torch.manual_seed(0)
    network = build(graph).eval()
    example = torch.randn(2, *graph.inputs[0][1])
    with torch.inference_mode():
        output = network(example)
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    torch.save({"state": network.state_dict(), "input": example, "output": output}, folder / f"{name}.pt")
    return source


def run_clean(folder: Path) -> list[str]:
    """The names of the sources that are right, all checked in one process without the package."""
    result = subprocess.run([sys.executable, "-c", CLEAN, str(folder)], capture_output=True, text=True, cwd=folder, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.split()


def ruff(folder: Path, arguments: Sequence[str]) -> str:
    """What ruff says about a folder's sources under this project's settings; empty when it is content."""
    command = [sys.executable, "-m", "ruff", *arguments, "--config", str(ROOT / "pyproject.toml"), str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if result.returncode == 0 else result.stdout + result.stderr
