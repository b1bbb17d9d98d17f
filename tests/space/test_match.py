from __future__ import annotations

from nas.space.match import find_decisions
from nas.space.parse import parse_text

SPACE = """
name: space
cells:
  cell:
    inputs: [x, y]
    blocks: 2
    pick: 2
    ops: {choice: [sep_conv_3x3, max_pool_3x3, identity]}
    combine: {choice: [add, concat]}
    output: [b0, b1, {choice: [none, x]}]
network:
  - {op: conv_bn, out_channels: 8}
  - {cell: cell, channels: 8}
"""


def page(layers: str, output: str = "[b0, b1]", extra: str = "") -> str:
    return (
        f"name: point\ncells:\n  cell:\n    inputs: [x, y]\n{extra}    layers:\n{layers}    output: {output}\n"
        "network:\n  - {op: conv_bn, out_channels: 32}\n  - {repeat: 2, cell: cell, channels: 32}\n"
    )


BLOCKS = """
      - {name: b0, from: [y, x], combine: add, branches: [sep_conv_3x3, max_pool_3x3]}
      - {name: b1, from: [b0, b0], combine: concat, branches: [identity, sep_conv_3x3]}
"""
DECISIONS = {
    "cell.b0.combine": "add", "cell.b0.0.from": "y", "cell.b0.0": "sep_conv_3x3", "cell.b0.1.from": "x",
    "cell.b0.1": "max_pool_3x3", "cell.b1.combine": "concat", "cell.b1.0.from": "b0", "cell.b1.0": "identity",
    "cell.b1.1.from": "b0", "cell.b1.1": "sep_conv_3x3", "cell.output.2": "none",
}  # fmt: skip


def find(text: str, space: str = SPACE, *, outputs: bool = True) -> dict[str, object] | None:
    found = find_decisions(parse_text(space), parse_text(text), outputs=outputs)
    return None if found is None else dict(found)


def test_the_decisions_of_a_member() -> None:
    assert find(page(BLOCKS)) == DECISIONS


def test_sources_may_be_written_at_the_branches() -> None:
    first = "{name: b0, combine: add, branches: [{op: max_pool_3x3, from: x}, {op: sep_conv_3x3, from: y}]}"
    second = "{name: b1, from: [b0, b0], combine: concat, branches: [identity, sep_conv_3x3]}"
    found = find(page(f"      - {first}\n      - {second}\n"))
    assert found == {**DECISIONS, "cell.b0.0": "max_pool_3x3", "cell.b0.0.from": "x", "cell.b0.1": "sep_conv_3x3",
                     "cell.b0.1.from": "y"}  # fmt: skip


def test_an_output_may_be_a_decision() -> None:
    assert find(page(BLOCKS, "[x, b1, b0]")) == {**DECISIONS, "cell.output.2": "x"}
    assert find(page(BLOCKS, "[y, b0, b1]")) is None
    assert find(page(BLOCKS, "[b1]")) is None


def test_what_is_no_member() -> None:
    assert find(page(BLOCKS.replace("max_pool_3x3", "max_pool_5x5"))) is None, "an operation of other words"
    assert find(page(BLOCKS.replace("max_pool", "avg_pool"))) is None, "another operation"
    assert find(page(BLOCKS + "      - {name: b2, op: identity, from: b1}\n")) is None, "another block"
    assert find(page(BLOCKS, extra="    stride: 2\n")) is None, "another cell"
    assert find("name: none\nnetwork: [classifier]") is None, "no cell"


def test_one_decision_at_two_places_is_one() -> None:
    space = """
name: shared
network:
  - {op: conv_bn, kernel_size: {choice: [3, 5], share: k}, out_channels: {range: [8, 32], step: 8}}
  - {op: conv_bn, kernel_size: {choice: [3, 5], share: k}, out_channels: 8}
"""
    second = "{op: conv_bn, kernel_size: 5, out_channels: 8}"
    point = "name: p\nnetwork: [{op: conv_bn, kernel_size: %d, out_channels: %d}, " + second + "]"
    assert find(point % (5, 16), space) == {"k": 5, "network.conv_bn.out_channels": 16}
    assert find(point % (3, 16), space) is None
    assert find(point % (5, 12), space) is None


def test_repetitions_are_compared_one_by_one() -> None:
    space = """
name: stages
network:
  - name: stage
    repeat: {choice: [1, 2, 3]}
    first: {stride: 2}
    %s
"""
    each = space % "each: {op: mbconv, out_channels: 8, kernel_size: {choice: [3, 5]}}"
    words = "first: {stride: 2}, op: mbconv, out_channels: 8, kernel_size: 5"
    alike = f"name: p\nnetwork: [{{name: stage, repeat: 2, {words}}}]"
    kernels = {"network.stage.0.kernel_size": 5, "network.stage.1.kernel_size": 5}
    assert find(alike, each) == {"network.stage.repeat": 2, **kernels}
    one = "name: p\nnetwork: [{name: stage, op: mbconv, stride: 2, out_channels: 8, kernel_size: 3}]"
    assert find(one, each) == {"network.stage.repeat": 1, "network.stage.0.kernel_size": 3}
    assert find(one.replace("stride: 2, ", ""), each) is None
    mixed = """
name: p
network:
  - name: stage
    repeat: 2
    each: [{op: mbconv, stride: 2, out_channels: 8, kernel_size: 3}, {op: mbconv, out_channels: 8, kernel_size: 5}]
"""
    assert find(mixed, each) is not None
    same = space.replace("%s", "op: mbconv\n    out_channels: 8\n    kernel_size: {choice: [3, 5]}")
    assert find(mixed, same) is None
    assert find(alike, same) == {"network.stage.repeat": 2, "network.stage.kernel_size": 5}


def test_rates_of_dropout_do_not_matter() -> None:
    space = "name: s\nnetwork: [{op: conv_bn, out_channels: {choice: [8, 16]}}, global_avg_pool, {op: dropout, p: 0.2}]"
    assert find("name: p\nnetwork: [{op: conv_bn, out_channels: 8}, global_avg_pool, {op: dropout, p: 0.5}]", space)


def test_rates_that_a_space_leaves_open_are_found() -> None:
    space = "name: s\nnetwork: [conv_bn, {name: d, op: dropout, p: {choice: [0.2, 0.5]}}]"
    assert find("name: p\nnetwork: [conv_bn, {name: d, op: dropout, p: 0.5}]", space) == {"network.d.p": 0.5}
    assert find("name: p\nnetwork: [conv_bn, {name: d, op: dropout, p: 0.1}]", space) is None


def test_branches_and_repeats_inside_a_choice() -> None:
    space = """
name: s
network:
  - name: stage
    choice:
      split: {branches: [conv_bn_3x3, {op: conv_bn, kernel_size: {choice: [1, 5]}}], combine: add}
      deep: {layers: [{name: inner, repeat: {choice: [1, 2]}, op: conv_bn}]}
"""
    split = "name: p\nnetwork: [{name: stage, branches: [conv_bn_5x5, conv_bn_3x3], combine: add}]"
    assert find(split, space) == {"network.stage": "split", "network.stage=split.1.kernel_size": 5}
    assert find(split.replace("add", "concat"), space) is None
    deep = "name: p\nnetwork: [{name: stage, layers: [{name: inner, repeat: 2, op: conv_bn}]}]"
    assert find(deep, space) == {"network.stage": "deep", "network.stage=deep.inner.repeat": 2}
