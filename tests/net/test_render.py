"""Rendered sources: the built network's names and bits, in a process without the package; readable, and safe."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas.errors import ExportError, NasError
from nas.net.build import build
from nas.net.graph import Call, Graph, Size
from nas.net.lower import lower
from nas.net.render import Head, render
from nas.net.render.source import Sources
from nas.ops import OPS
from nas.space.library import bundled_architectures
from nas.space.parse import parse_text
from nas.space.search_space import Architecture
from tests.net.rendering import published, ruff, run_clean, sampled, small, store

SMALL = ("nasnet_a_cifar", "nasnet_a_large", "enas_micro_cell", "amoebanet_a_mobile", "fbnet_c", "mobilenet_v3_small",
         "darts_v2_cifar_aux")  # fmt: skip


def body_of(source: str) -> str:
    """The source without its head."""
    return source[source.index("from __future__") :]


def exec_source(source: str) -> dict[str, object]:
    names: dict[str, object] = {"__name__": "network"}
    exec(compile(source, "network.py", "exec"), names)
    return names


def page(text: str) -> Graph:
    return lower(Architecture(parse_text(text)))


def check_all(folder: Path, networks: dict[str, Graph]) -> None:
    for name, graph in networks.items():
        source = store(folder, name, graph)
        assert not re.search(r"\bnas\b|\bGraph\b|\bSpec\b", body_of(source)), name
    assert sorted(run_clean(folder)) == sorted(networks)
    assert ruff(folder, ["check"]) == ""
    assert ruff(folder, ["format", "--check", "--diff"]) == ""


def test_random_and_published_networks(tmp_path: Path) -> None:
    pages = published()
    networks = dict(sampled(13)) | {name: lower(pages[name], small(name, pages[name])) for name in SMALL}
    check_all(tmp_path, networks)


@pytest.mark.slow
def test_200_random_networks(tmp_path: Path) -> None:
    check_all(tmp_path, dict(sampled(200)))


@pytest.mark.slow
def test_every_published_network_at_a_small_size(tmp_path: Path) -> None:
    check_all(tmp_path, {name: lower(a, small(name, a)) for name, a in published().items()})


@pytest.mark.slow
@pytest.mark.parametrize("name", bundled_architectures())
def test_published_network_at_its_own_size(name: str) -> None:
    """Names and shapes of all weights, without memory for them."""
    graph = lower(published()[name])
    module = exec_source(render(graph, Head(title=name)))
    with torch.device("meta"):
        expected, network = build(graph).state_dict(), module["build"]().state_dict()  # type: ignore[operator]
    assert {k: v.shape for k, v in network.items()} == {k: v.shape for k, v in expected.items()}


def test_cells_are_classes_of_their_own() -> None:
    source = render(lower(published()["nasnet_a_cifar"]), Head(title="t"))
    assert re.findall(r"^class (\w+Cell)", source, re.MULTILINE) == ["NormalCell", "ReductionCell"]
    assert "for cell in self.stack1:\n            prev, prev_prev = cell(prev, prev_prev), prev\n" in source
    assert len(source.splitlines()) < 350
    normal = exec_source(source)["NormalCell"](24, 16, 8)  # type: ignore[operator]
    assert normal(torch.zeros(1, 24, 8, 8), torch.zeros(1, 16, 8, 8)).shape == (1, 48, 8, 8)


def test_repeated_blocks_are_loops() -> None:
    source = render(lower(published()["efficientnet_b0"]), Head(title="t"))
    assert "*(MBConv(192, 192, 5) for _ in range(3))" in source


def test_classes_and_input_channels_are_arguments() -> None:
    source = render(lower(published()["nasnet_a_cifar"], Size(width=0.25)), Head(title="t"))
    network = exec_source(source)["build"](num_classes=3, in_channels=1)  # type: ignore[operator]
    assert network.eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 3)


HOSTILE = '"""\nimport os; os.system("echo")\n"""\\\u202e\x00 # {x} %s \N{PARAGRAPH SEPARATOR}'


def test_a_hostile_head_stays_text() -> None:
    graph = page("{name: t, network: [conv_bn, global_avg_pool, classifier]}")
    source = render(graph, Head(title=HOSTILE, lines=[HOSTILE, "a" * 500, '"', "\\"]))
    names = exec_source(source)
    assert "os" not in names
    assert "import os" in str(names["__doc__"])
    assert source.replace(source[: source.index("from __future__")], "") == body_of(render(graph, Head(title="t")))


@pytest.mark.parametrize("name", ["class", "forward", "training", "__init__", "lambda", "None"])
def test_a_layer_that_python_cannot_name(name: str) -> None:
    with pytest.raises(NasError):
        render(page(f"{{name: t, network: [{{name: {name}, op: conv_bn}}, global_avg_pool, classifier]}}"), Head(title="t"))


def test_layers_with_the_names_of_other_things(tmp_path: Path) -> None:
    names = ["F", "Network", "OrderedDict", "Tensor", "build", "cell", "nn", "range", "super", "torch"]
    for name in names:
        text = f"""
            name: t
            cells:
              {name}: {{inputs: [a, b], layers: [{{name: {name}, from: [a, b], combine: add, branches: [conv_bn, conv_bn]}}]}}
            network:
              - {{name: stem, op: conv_bn, out_channels: 4}}
              - {{name: {name}, cell: {name}, channels: 4}}
              - {{name: again, cell: {name}, channels: 4}}
              - global_avg_pool
              - classifier
        """
        store(tmp_path, f"with_{name}", page(text))
    assert run_clean(tmp_path) == [f"with_{name}" for name in names]


@pytest.mark.parametrize("name", ["self", "torch", "class", "nn"])
def test_an_input_that_python_cannot_name(name: str) -> None:
    cells = f"{{c: {{inputs: [{name}], layers: [conv_bn]}}}}"
    text = f"{{name: t, cells: {cells}, network: [{{cell: c}}, global_avg_pool, classifier]}}"
    with pytest.raises(NasError, match=name):
        render(page(text), Head(title="t"))


def test_a_value_that_is_no_literal_is_refused() -> None:
    graph = page("{name: t, network: [conv_bn, global_avg_pool, classifier]}")
    node = graph.nodes[0]
    assert isinstance(node.target, Call)
    call = replace(node.target, kwargs={**node.target.kwargs, "padding": object()})
    hostile = Graph(graph.name, graph.inputs, (node._replace(target=call), *graph.nodes[1:]), graph.output, graph.shape)
    with pytest.raises(ExportError, match="cannot be written as source"):
        render(hostile, Head(title="t"))


def test_every_operation_can_be_taken_along() -> None:
    """All of the vocabulary in one file: no two helpers of one name, nothing but torch and Python's own modules."""
    sources = Sources()
    for spec in OPS.values():
        module, _, name = spec.module.partition(":")
        if module != "torch.nn":
            sources.add(module, name)
    text = "\n\n\n".join(sources.definitions.values())
    assert "fmt: skip" not in text
    compile(text, "operations", "exec")
