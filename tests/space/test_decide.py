"""The traversal: which decisions are asked for, under which keys, and what they fill in."""

from __future__ import annotations

from typing import Any

import pytest

from nas.errors import SpaceError
from nas.space.decide import decide, open_nodes, option_of
from nas.space.parse import parse_page
from nas.space.spec import Choice, Hole, Op, Range, Scalar, Spec, has_holes


def spec_of(*layers: Any, **words: Any) -> Spec:
    return parse_page({"name": "s", "network": list(layers), **words})


def ask(spec: Spec, **answers: Scalar) -> tuple[Spec, dict[str, Scalar]]:
    """Decide with the first label wherever nothing is answered; ``__`` stands for ``.`` in a key."""
    wanted = {key.replace("__", "."): label for key, label in answers.items()}

    def choose(key: str, hole: Hole) -> Scalar:
        first = hole.labels[0] if isinstance(hole, Choice) else hole.low
        return wanted.get(key, first)

    return decide(spec, open_nodes(spec), choose)


KERNEL = {"choice": [1, 3]}
CONV = {"op": "conv_bn", "kernel_size": KERNEL}

PLACES: list[tuple[Any, list[str]]] = [
    (CONV, ["conv_bn.kernel_size"]),
    ({"name": "a", **CONV}, ["a.kernel_size"]),
    ({"choice": {"b": CONV, "c": "relu"}}, ["choice", "choice=b.kernel_size"]),
    ({"choice": {"b": {"choice": {"d": CONV}}}}, ["choice", "choice=b", "choice=b=d.kernel_size"]),
    ([CONV, {"name": "a", **CONV}], ["layers.0.kernel_size", "layers.a.kernel_size"]),
    ({"repeat": KERNEL, **CONV}, ["conv_bn.repeat", "conv_bn.kernel_size"]),
    ({"repeat": 2, "each": CONV}, ["repeat.0.kernel_size", "repeat.1.kernel_size"]),
    ({"repeat": 2, "op": "conv_bn", "first": {"stride": KERNEL}}, ["conv_bn.first.stride"]),
    ({"branches": [CONV], "combine": {"choice": ["add"]}}, ["branches.0.kernel_size", "branches.combine"]),
    ({"op": "relu", "from": {"choice": ["x"]}}, ["relu.from"]),
    ({"op": "add", "from": ["x", {"choice": ["x"]}]}, ["add.from.1"]),
    ({"op": "add", "from": {"choice": {"b": ["x", {"optional": ["x"]}]}}}, ["add.from", "add.from=b.1"]),
    ({"repeat": 1, "op": "relu", "first": {"from": {"choice": ["x"]}}}, ["relu.first.from"]),
]


@pytest.mark.parametrize(("layer", "keys"), PLACES, ids=range(len(PLACES)))
def test_every_place_has_its_key(layer: Any, keys: list[str]) -> None:
    spec, decisions = ask(spec_of(layer))
    assert list(decisions) == [f"network.{key}" for key in keys]
    assert not has_holes(spec)


def test_cells_and_scaling_have_keys_of_their_own() -> None:
    cell = {"layers": [CONV], "output": [{"choice": ["conv_bn"]}], "combine": {"choice": ["add"]}}
    page = {"cells": {"c": cell}, "scaling": {"phi": {"range": [0, 2]}}}
    _, decisions = ask(spec_of({"cell": "c", "channels": {"choice": [8]}, "stride": {"choice": [1]}}, **page))
    assert list(decisions) == ["c.output.0", "c.conv_bn.kernel_size", "c.combine", "network.c.channels", "network.c.stride",
                               "scaling.phi"]  # fmt: skip


def test_holes_of_one_share_are_asked_once() -> None:
    shared = {"op": "conv_bn", "kernel_size": {"choice": [1, 3], "share": "k"}}
    spec, decisions = ask(spec_of(shared, shared), k=3)
    assert decisions == {"k": 3}
    assert [layer.body for layer in spec.network.layers] == [Op(name="conv_bn", kwargs=(("kernel_size", 3),))] * 2


def test_what_has_no_hole_is_not_copied() -> None:
    spec = spec_of(["relu", "identity"], CONV)
    assert ask(spec)[0].network.layers[0] is spec.network.layers[0]


def test_a_source_of_none_leaves_the_output() -> None:
    cells = {"c": {"layers": ["relu", "identity"], "output": ["relu", {"choice": ["identity", "none"]}]}}
    assert ask(spec_of({"cell": "c"}, cells=cells), c__output__1="none")[0].cells["c"].output == ("relu",)


@pytest.mark.parametrize(("hole", "label"), [
    (Choice(options=(1, 3), labels=(1, 3)), 2), (Choice(options=(1, 3), labels=(1, 3)), True),
    (Choice(options=(0.0,), labels=(0.0,)), 0), (Choice(options=("a",), labels=("a",)), None),
    (Range(low=1, high=5), 6), (Range(low=1, high=5), 2.0), (Range(low=1, high=5), True), (Range(low=1, high=5, step=2), 2),
    (Range(low=0.0, high=1.0), "a"), (Range(low=0.0, high=1.0), float("nan")), (Range(low=0.0, high=1.0, step=0.25), 0.3),
])  # fmt: skip
def test_labels_that_are_none_of_the_hole_are_refused(hole: Hole, label: Any) -> None:
    with pytest.raises(SpaceError, match=r"no such option for k|out of range for k"):
        option_of("k", hole, label)


@pytest.mark.parametrize(("hole", "label"), [
    (Choice(options=("big",), labels=(1,)), 1), (Range(low=1, high=5), 5), (Range(low=1, high=5, step=2), 3),
    (Range(low=0.0, high=1.0), 0.3), (Range(low=0.0, high=1.0), 1), (Range(low=0.0, high=1.0, step=0.1), 0.1 + 0.2),
])  # fmt: skip
def test_labels_of_the_hole_are_taken(hole: Hole, label: Any) -> None:
    assert option_of("k", hole, label) == ("big" if isinstance(hole, Choice) else label)


def test_ranges() -> None:
    assert Range(low=1, high=6, step=2).values() == (1, 3, 5)
    assert Range(low=0.1, high=0.5, step=0.1).values() == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert Range(low=2, high=2).count == 1
    assert Range(low=0.0, high=1.0).count is None
    with pytest.raises(ValueError, match="continuous"):
        Range(low=0.0, high=1.0).values()


@pytest.mark.parametrize(("options", "labels"), [((), ()), ((1, 2), (1,)), ((1, 2), ("a", "a")), ((1, True), (1, True))])
def test_choices_whose_labels_do_not_tell_options_apart_are_refused(options: Any, labels: Any) -> None:
    with pytest.raises(SpaceError, match="a label of its own"):
        Choice(options=options, labels=labels)
