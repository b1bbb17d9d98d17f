"""Auxiliary heads: counted as weights, run in training alone, exported with the network."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from nas.errors import SpaceError
from nas.net.build import build
from nas.net.graph import Graph
from nas.net.identity import identity
from nas.net.lower import lower
from nas.net.render import Head, render
from nas.space.parse import parse_text
from nas.space.search_space import Architecture
from nas.space.unparse import to_yaml

NETWORK = """
name: t
input: [3, 16, 16]
num_classes: 5
cells: {c: {layers: [conv_bn, relu]}}
network:
  - {name: stem, op: conv_bn_act, out_channels: 8}
  - {name: body, repeat: 3, op: basic_block, out_channels: 8}
  - {name: late, repeat: 2, branches: [conv_bn, identity], combine: add}
  - global_avg_pool
  - dropout
  - classifier
"""

BLOCK = "{branches: [conv_bn, identity], combine: add}"
HEADS = {
    "an operation": "{op: aux_classifier, from: stem}",
    "a chain": "{name: aux, from: body, layers: [conv_bn_act, global_avg_pool, dropout, classifier]}",
    "a chain of blocks": f"{{name: aux, from: late, layers: [{BLOCK}, global_avg_pool, classifier]}}",
    "a graph": "{name: aux, from: stem, layers: [conv_bn, {op: add, from: [-1, -2]}, {cell: c}, global_avg_pool, classifier]}",
    "a repeat": f"{{name: aux, from: body, layers: [{{repeat: 2, {BLOCK[1:]}, global_avg_pool, classifier]}}",
    "the logits' layer": "{name: aux, from: global_avg_pool, layers: [classifier]}",
}  # fmt: skip
HEADS["two"] = f"{HEADS['an operation']}, {HEADS['a chain']}"


def graph_of(heads: str) -> Graph:
    text = f"{NETWORK}auxiliary: [{heads}]" if heads else NETWORK
    spec = parse_text(text)
    assert parse_text(to_yaml(spec)) == spec
    return lower(Architecture(spec))


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
def test_heads_count_and_run_in_training_alone(heads: str) -> None:
    plain, graph = graph_of(""), graph_of(heads)
    module = build(graph)
    assert sum(p.numel() for p in module.parameters()) == graph.num_params > plain.num_params
    assert (graph.macs, list(graph.calls())) == (plain.macs, list(plain.calls()))
    outputs = module(torch.randn(2, 3, 16, 16))
    assert [tuple(output.shape) for output in outputs] == [(2, 5)] * (1 + heads.count("from:") - heads.count("from: ["))
    sum(output.sum() for output in outputs).backward()
    assert [name for name, p in module.named_parameters() if p.grad is None] == []
    assert module.eval()(torch.randn(2, 3, 16, 16)).shape == (2, 5)


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
def test_the_source_has_the_heads(heads: str) -> None:
    graph = graph_of(heads)
    names: dict[str, object] = {"__name__": "network"}
    exec(compile(render(graph, Head(title="t")), "network.py", "exec"), names)
    ours, theirs = build(graph), names["build"]()  # type: ignore[operator]
    theirs.load_state_dict(ours.state_dict())
    for training in (True, False):
        ours.train(training), theirs.train(training)
        assert all(map(torch.equal, run(ours), run(theirs)))


def run(module: nn.Module) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    outputs = module(torch.randn(4, 3, 16, 16))
    return outputs if isinstance(outputs, tuple) else (outputs,)


def test_in_evaluation_no_head_runs() -> None:
    """Modules of heads are never called, and the result is that of the network without them."""
    graph = graph_of(HEADS["two"])
    ours, plain = build(graph).eval(), build(dataclasses.replace(graph, auxiliary=(), heads=())).eval()
    plain.load_state_dict({k: v for k, v in ours.state_dict().items() if not k.startswith("aux")})
    for name, child in ours.named_children():
        if name.startswith("aux"):
            child.register_forward_pre_hook(lambda *_: pytest.fail("a head ran"))
    assert all(map(torch.equal, run(ours), run(plain)))


def test_a_head_is_part_of_the_identity() -> None:
    assert len({identity(graph_of(heads)) for heads in ("", *HEADS.values())}) == len(HEADS) + 1


@pytest.mark.parametrize(("heads", "said"), [
    ("classifier", "reads one layer of the network"),
    ("{name: aux, from: nowhere, layers: [classifier]}", "nowhere"),
    ("{name: aux, from: x, layers: [classifier]}", "reads one layer of the network"),
    ("{name: aux, from: [stem, body], layers: [classifier]}", "reads one layer of the network"),
    ("{name: aux, from: -1, layers: [classifier]}", "reads one layer of the network"),
    ("{name: body, from: stem, layers: [classifier]}", "two layers of one name"),
    ("{name: aux, from: stem, repeat: 2, op: conv}", "an operation or a list of layers"),
    ("{name: aux, from: stem, layers: [{op: dropout, p: {choice: [0.1, 0.2]}}, classifier]}", "nothing to decide"),
    ("{name: aux, from: global_avg_pool, layers: [conv_bn]}", "feature maps"),
])  # fmt: skip
def test_what_a_head_cannot_be(heads: str, said: str) -> None:
    with pytest.raises(SpaceError) as error:
        graph_of(heads)
    assert said in str(error.value)
