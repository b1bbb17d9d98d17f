"""Building: every bundled space's samples run forward and backward; modules are what the graph says."""

from __future__ import annotations

import copy
import random
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import nn

from nas.errors import SpaceError
from nas.net.build import build, make_module
from nas.net.graph import Call, Graph, Size
from nas.net.lower import lower
from nas.ops import find
from nas.space.parse import parse_file, parse_page
from nas.space.search_space import Architecture, SearchSpace
from tests.net.nets import lowered
from tests.space.pages import BUNDLED, pages

SIZES = [Size(width=0.05, depth=0.15, input=(3, 32, 32), num_classes=2),
         Size(width=0.1, depth=0.15, input=(1, 40, 33), num_classes=7)]  # fmt: skip


SQUARE = {"lectures", "mixer", "vit"}
"""Spaces whose tokens are a square of pixels, or patches that must cover the image."""


def check(graph: Graph) -> None:
    """Forward and backward: the shape that the graph says, as many parameters, a finite gradient for each."""
    model = build(graph)
    parameters = dict(model.named_parameters())
    assert sum(p.numel() for p in parameters.values()) == graph.num_params
    x = torch.randn(2, *graph.inputs[0][1])
    y = model(x)
    assert y.shape == (2, *graph.shape)
    # The sum of squares alone would be flat at a normalisation's output.
    ((y - torch.randn_like(y)) ** 2).sum().backward()
    without = [name for name, p in parameters.items() if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())]
    assert without == []


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size.input)))
@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_samples_of_bundled_spaces(path: Path, size: Size) -> None:
    space = SearchSpace(parse_file(path))
    if path.stem in SQUARE:
        size = replace(size, input=(size.input[0] if size.input else 3, 32, 32))
    torch.manual_seed(0)
    for seed in range(2):
        check(lower(space.sample(random.Random(seed)), size))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(pages())
def test_samples_of_random_spaces(page: dict[str, Any]) -> None:
    space = SearchSpace(parse_page({**page, "scaling": {"width": 0.1, "divisor": 2}}))
    check(lower(space.sample(random.Random(0))))


def test_modules_have_the_names_of_the_graph() -> None:
    graph = lowered("conv_bn", {"name": "s", "repeat": 2, "cell": "c"}, cells={"c": {"layers": ["conv_bn", ["conv_bn", "relu"]]}})
    model = build(graph)
    for name, call in graph.calls():
        assert type(model.get_submodule(name)) is find(call.op).load()
    assert all(not name.startswith("_") for name, _ in model.named_modules())


def test_uses_of_a_cell_share_no_weights() -> None:
    model = build(lowered({"name": "s", "repeat": 2, "cell": "c"}, cells={"c": {"layers": ["conv_bn"]}}))
    first, second = (model.get_parameter(f"s.{i}.conv_bn.conv.weight") for i in (0, 1))
    assert first is not second
    assert not torch.equal(first, second)


def test_a_replaced_module_is_the_one_that_runs() -> None:
    model = build(lowered("conv_bn", ["relu"])).eval()
    x = torch.randn(1, 4, 8, 8)
    before = model(x)
    model.get_submodule("layers").add_module("0", nn.Sigmoid())
    assert torch.equal(model(x), model.get_submodule("conv_bn")(x).sigmoid())
    assert not torch.equal(model(x), before)


def test_a_copy_is_independent() -> None:
    model = build(lowered("conv_bn", "relu")).eval()
    x = torch.randn(1, 4, 8, 8)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), model(x))
    with torch.no_grad():
        twin.get_parameter("conv_bn.conv.weight").zero_()
    assert not torch.equal(twin(x), model(x))


def test_values_are_let_go_when_nothing_reads_them_any_more() -> None:
    model = build(lowered(*[{"name": f"r{i}", "op": "max_pool"} for i in range(6)], {"op": "add", "from": ["r0", -1]}))
    outputs: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []
    for module in model.children():
        module.register_forward_pre_hook(lambda *_: alive.append(sum(ref() is not None for ref in outputs)))
        module.register_forward_hook(lambda _, __, output: outputs.append(weakref.ref(output)))
    with torch.no_grad():
        model(torch.randn(1, 4, 8, 8))
    assert max(alive) == 2


def test_a_network_that_does_nothing_is_its_input() -> None:
    x = torch.randn(1, 4, 8, 8)
    assert build(lowered("identity"))(x) is x


def test_the_whole_network_is_one_graph_for_the_compiler() -> None:
    model = build(lowered("conv_bn", {"name": "s", "repeat": 2, "cell": "c"}, cells={"c": {"layers": ["conv_bn"]}})).eval()
    x = torch.randn(1, 4, 8, 8)
    assert torch.equal(torch.export.export(model, (x,)).module()(x), model(x))


def test_words_that_make_no_module_are_told() -> None:
    call = Call("mbconv", {"in_channels": 4, "out_channels": 4, "activation": "rleu"}, (4, 8, 8), 0, 0)
    with pytest.raises(SpaceError, match=r"stage\.0: no mbconv can be made of these words"):
        make_module(call, "stage.0")


def test_channels_that_are_filled_in_are_those_of_the_first_input() -> None:
    graph = lowered(
        {"name": "wide", "op": "conv_bn", "out_channels": 8}, {"name": "small", "op": "max_pool", "stride": 2},
        {"op": "unet_up", "from": ["small", "wide"]},
    )  # fmt: skip
    check(graph)


def test_an_architecture_page_is_exact() -> None:
    for path in (BUNDLED[0].parent / "architectures").glob("nasnet_a_cifar.yaml"):
        graph = lower(Architecture(parse_file(path)))
        assert round(graph.num_params / 1e6, 1) == 3.3
