"""Every space counts, samples, lowers and builds; what is published about one is true of it."""

from __future__ import annotations

import random
from math import comb, prod
from pathlib import Path

import pytest
import torch

from nas.net.build import build
from nas.net.graph import Size
from nas.net.identity import identity
from nas.net.lower import lower
from nas.space.parse import parse_page
from nas.space.unparse import to_page
from tests.pages import SPACE_FILES, space

NAMES = [file.stem for file in SPACE_FILES]
FIVE_BLOCKS = prod((2 + block) ** 2 for block in range(5))

SIZES = {
    "amoebanet": (FIVE_BLOCKS * 12**10) ** 2,
    "darts": prod(comb(2 + node, 2) * 7**2 for node in range(4)) ** 2,
    "enas_macro": 6**12 * 2 ** comb(12, 2),
    "enas_micro": (FIVE_BLOCKS * 5**10) ** 2,
    "hierarchical": (7**6) ** 6 * 7**10,
    "mobilenet_v3": sum(18**depth for depth in (2, 3, 4)) ** 5,
    "nao": (FIVE_BLOCKS * 13**10) ** 2,
    "nas_bench_201": 15_625,
    "nasnet_cell": (FIVE_BLOCKS * 13**10 * 2**5) ** 2,
    "pnas": FIVE_BLOCKS * 8**10,
    "convnext": (2 * 3) * 3**3 * (3 * 3 * 4 * 3) * (5 * 3 * 3),
    "mixer": (2 * 4) * 4 * (3 * 4 * 2 * 2),
    "regnet": (3 * 2) * (6 * 6) * (14 * 13) * (7 * 15) * (3 * 2 * 2 * 2),
    "vit": (3 * 5) * (2 * 2) * 4 * (4 * 3 * 2 * 2),
}


@pytest.mark.parametrize("file", SPACE_FILES, ids=lambda file: file.stem)
def test_a_page_is_short(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 80
    assert max(map(len, lines)) <= 120
    assert space(file.stem).name == file.stem
    assert space(file.stem).spec.source


@pytest.mark.parametrize("name", NAMES)
def test_size(name: str) -> None:
    assert space(name).size() > 1
    if name in SIZES:
        assert space(name).size() == SIZES[name]


@pytest.mark.parametrize("name", NAMES)
def test_samples(name: str) -> None:
    rng = random.Random(0)
    found = set()
    for _ in range(20):
        architecture = space(name).sample(rng)
        found.add(identity(lower(architecture)))
        assert parse_page(to_page(architecture.spec)) == architecture.spec
        assert space(name).find(architecture) == architecture
        assert space(name).architecture(architecture.decisions) == architecture
    assert len(found) > 15


@pytest.mark.parametrize("name", NAMES)
def test_samples_build(name: str) -> None:
    """On meta, with one cell a stack (all of it in the slow test)."""
    check_builds(name, Size(depth=0.01), count=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_samples_build_in_full(name: str) -> None:
    check_builds(name, Size(), count=20)


def check_builds(name: str, size: Size, count: int) -> None:
    rng = random.Random(1)
    for _ in range(count):
        graph = lower(space(name).sample(rng), size)
        with torch.device("meta"):
            module = build(graph).eval()
            assert module(torch.empty(2, *graph.inputs[0][1])).shape == (2, *graph.shape)
        assert sum(p.numel() for p in module.parameters()) == graph.num_params


@pytest.mark.parametrize("name", NAMES)
def test_samples_scale(name: str) -> None:
    """Half the width and a smaller image still make a network (a proxy)."""
    channels, height, _ = space(name).spec.input
    graph = lower(space(name).sample(random.Random(2)), Size(width=0.5, input=(channels, height // 2, height // 2)))
    assert graph.num_params < lower(space(name).sample(random.Random(2))).num_params


def test_nas_bench_201_reads_architecture_strings() -> None:
    """The string's operations are the decisions in the order of the space's keys."""
    nb201 = space("nas_bench_201")
    text = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    edges = [edge.split("~")[0] for edge in text.replace("+", "").split("|") if edge]
    architecture = nb201.architecture(dict(zip(nb201.holes, edges, strict=True)))
    keys = ["node1.from0", "node2.from0", "node2.from1", "node3.from0", "node3.from1", "node3.from2"]
    assert list(nb201.holes) == [f"cell.{key}" for key in keys]
    all_but_one = 73_306 + (1_531_546 - 73_306) * 5 // 6
    assert lower(architecture).num_params == all_but_one


def test_nas_bench_201_keeps_what_follows_nothing() -> None:
    """A convolution on a node without inputs has weights and a bias that trains: the benchmark counts it."""
    nb201 = space("nas_bench_201")
    decisions = dict.fromkeys(nb201.holes, "none") | {"cell.node3.from1": "nor_conv_3x3"}
    assert lower(nb201.architecture(decisions)).num_params == 73_306 + (1_531_546 - 73_306) // 6


@pytest.mark.parametrize("name", NAMES)
def test_samples_learn(name: str) -> None:
    """On real tensors, at a quarter of the width: the output is finite, and every weight gets a gradient."""
    torch.manual_seed(0)
    size = Size(width=0.25, depth=0.01, input=(3, 32, 32), num_classes=10)
    module = build(lower(space(name).sample(random.Random(3)), size))
    output = module(torch.randn(4, 3, 32, 32))
    assert output.shape == (4, 10)
    assert torch.isfinite(output).all()
    output.square().sum().backward()
    assert [key for key, weight in module.named_parameters() if weight.requires_grad and weight.grad is None] == []
