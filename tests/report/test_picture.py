"""Pictures of networks: every network draws, boxes hold their text, edges pass between boxes, and no name becomes markup."""

from __future__ import annotations

import random
import re
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.net.graph import Call, Graph, Node
from nas.net.lower import lower
from nas.report.picture import picture
from nas.report.picture.diagram import diagrams
from nas.report.picture.layers import Layout, lay_out
from nas.space.library import bundled_spaces, load_space
from tests.pages import FAMILY_FILES, architectures, parse_family

SPACES = sorted(bundled_spaces())
FIRST = [next(iter(parse_family(file))) for file in FAMILY_FILES]
HOSTILE = ['</text><script>alert(1)</script>', "&lt;b&gt;", '"><x y="', "\x00\x1b[31m", "]]>", "ﷺ\N{RIGHT-TO-LEFT OVERRIDE}",
           "a" * 500]  # fmt: skip


def parsed(text: str) -> ElementTree.Element:
    """The document, that loads nothing and runs nothing."""
    root = ElementTree.fromstring(text)
    assert {element.tag.partition("}")[2] for element in root.iter()} <= {"svg", "title", "style", "g", "rect", "text", "path"}
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert not [name for element in root.iter() for name in element.attrib if name.startswith("on") or "href" in name]
    return root


def separate(layout: Layout, pitch: float) -> None:
    """Boxes of a row have the whole pitch to themselves, and passing edges stay out of boxes."""
    for (x, y), (x2, y2) in combinations(layout.centres, 2):
        assert y != y2 or abs(x - x2) >= pitch - 1e-6
    for route in layout.routes:
        assert all(b[1] == pytest.approx(a[1] + 1) for a, b in pairwise(route))
        for x, y in route[1:-1]:
            assert all(abs(x - cx) > pitch / 2 for cx, cy in layout.centres if cy == y)


def drawn(graph: Graph) -> None:
    for diagram in diagrams(graph):
        assert all(0 <= a < b < len(diagram.boxes) for a, b in diagram.edges)
        separate(lay_out(len(diagram.boxes), diagram.edges, 100.0), 100.0)
    parsed(picture(graph, graph.name))


@pytest.mark.parametrize("name", SPACES)
def test_every_space_draws(name: str) -> None:
    for seed in range(2):
        drawn(lower(load_space(name).sample(random.Random(seed))))


@pytest.mark.parametrize("name", FIRST)
def test_every_family_of_published_networks_draws(name: str) -> None:
    drawn(lower(architectures()[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(architectures()) - set(FIRST)))
def test_every_published_network_draws(name: str) -> None:
    drawn(lower(architectures()[name]))


def earlier(box: int) -> st.SearchStrategy[set[int]]:
    return st.sets(st.integers(0, box - 1), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 14).flatmap(lambda n: st.tuples(*map(earlier, range(1, n)))))
def test_any_wiring_is_laid_out_top_down(inputs: tuple[set[int], ...]) -> None:
    edges = [(a, b) for b, read in enumerate(inputs, 1) for a in sorted(read)]
    layout = lay_out(len(inputs) + 1, edges, 50.0)
    separate(layout, 50.0)
    assert [(r[0], r[-1]) for r in layout.routes] == [(layout.centres[a], layout.centres[b]) for a, b in edges]
    assert all(24.99 <= x <= layout.width - 24.99 for x, _ in layout.centres)
    assert layout == lay_out(len(inputs) + 1, edges, 50.0)


def folded(name: str) -> list[tuple[str, int]]:
    return [(box.title, box.times) for box in diagrams(lower(architectures()[name]))[0].boxes]


def test_repeats_are_folded_and_their_first_layer_is_not():
    assert folded("nasnet_a_cifar")[1:6] == [("conv bn 3×3", 1), ("normal", 6), ("reduction", 1), ("normal", 6), ("reduction", 1)]
    assert folded("resnet_50")[3:6] == [("bottleneck", 3), ("bottleneck /2", 1), ("bottleneck", 3)]


def test_repeats_of_several_layers_get_a_frame():
    network = diagrams(lower(architectures()["swin_t"]))[0]
    assert [times for _, _, times in network.frames] == [3]
    (first, last, _), = network.frames
    assert [box.title for box in network.boxes[first : last + 1]] == ["swin block", "swin block shifted"]


def test_layers_that_others_read_are_not_folded_away():
    conv = Call("conv", {"out_channels": 4}, (4, 8, 8), 10, 10)
    nodes = [Node("a", conv, ("x",)), Node("b", conv, ("a",)), Node("c", conv, ("b",)),
             Node("d", Call("concat", {}, (8, 8, 8), 0, 0), ("c", "a"))]  # fmt: skip
    boxes = diagrams(Graph("n", (("x", (4, 8, 8)),), tuple(nodes), "d", (8, 8, 8)))[0].boxes
    assert [(box.title, box.times) for box in boxes[1:]] == [("conv 3×3", 1), ("conv 3×3", 2), ("concat", 1)]


@pytest.mark.parametrize(("name", "cells"), [
    ("nasnet_a_cifar", ["normal", "reduction"]), ("unet", ["convs"]),
    ("inception_resnet_v1", ["block35.0.0 and 4 more", "reduction1", "block17.0.0 and 9 more", "reduction2",
                             "block8.0.0 and 4 more"]),
])  # fmt: skip
def test_every_definition_is_drawn_once(name: str, cells: list[str]) -> None:
    assert [diagram.title for diagram in diagrams(lower(architectures()[name]))[1:]] == cells


def test_a_cell_shows_its_inputs_operations_and_output():
    normal = diagrams(lower(architectures()["darts_v2_cifar"]))[1]
    titles = [box.title for box in normal.boxes]
    assert (titles[:2], titles[-1]) == (["prev", "prev_prev"], "output")
    assert (titles.count("sep conv 3×3"), titles.count("dil conv 3×3 dil 2"), titles.count("add")) == (5, 1, 4)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_becomes_markup(name: str) -> None:
    call = Call(name, {name: name}, (4, 8, 8), 1, 1)
    inner = Graph(name, ((name, (4, 8, 8)),), (Node(f"{name}in", call, (name,)),), f"{name}in", (4, 8, 8))
    nodes = (Node(f"a{name}", call, (name,)), Node(f"b{name}", inner, (f"a{name}",)))
    text = picture(Graph(name, ((name, (4, 8, 8)),), nodes, f"b{name}", (4, 8, 8)), name)
    root = parsed(text)
    shown = "".join(root.itertext())
    assert "<script" not in text
    assert re.sub(r"[^ -~]", "", name)[:20] in shown


def test_a_picture_has_both_schemes() -> None:
    style = next(parsed(picture(lower(architectures()["lenet_5"]), "lenet_5")).iter("{http://www.w3.org/2000/svg}style"))
    light, _, dark = (style.text or "").partition("@media (prefers-color-scheme:dark)")
    assert set(re.findall(r"--(\w+):#", light)) == set(re.findall(r"--(\w+):#", dark))
