from __future__ import annotations

from pathlib import Path

import pytest

from nas.errors import SpaceError
from nas.space.family import override
from nas.space.page import Row, read_page
from nas.space.parse import parse_page
from nas.space.spec import Op, Parallel, Repeat, Spec
from tests.pages import parse_family

PAGE = """
name: tiny
reference: Tiny
input: [3, 8, 8]
cells:
  cell:
    inputs: [x]
    layers:
      - {name: b0, combine: add, branches: [{name: left, from: x, op: sep_conv_3x3}, {from: x, op: identity}]}
network:
  - {name: stem, op: conv_bn, out_channels: 8}
  - {name: stage, repeat: 2, cell: cell, channels: 8}
  - global_avg_pool
  - classifier
variants:
  tiny_deep: {network.stage.repeat: 4}
  tiny_wide: {like: tiny_deep, scaling.width: 2, reference: Wide}
  tiny_plain: {network.stage: null, network.stem: {op: conv_bn_act, out_channels: 4}, classifier: 1}
"""


def changed(**changes: object) -> Spec:
    return parse_page(override(read_page(PAGE, "tiny.yaml"), {k.replace("__", "."): v for k, v in changes.items()}))


def times(spec: Spec) -> object:
    body = spec.network.layers[1].body
    assert isinstance(body, Repeat)
    return body.times


def test_a_family_is_its_page_and_its_variants(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(PAGE.replace(", classifier: 1", ""))
    family = parse_family(file)
    assert list(family) == ["tiny", "tiny_deep", "tiny_wide", "tiny_plain"]
    assert all(spec.name == name for name, spec in family.items())
    assert [times(family[name]) for name in ("tiny", "tiny_deep", "tiny_wide")] == [2, 4, 4]
    assert [spec.reference for spec in family.values()] == ["Tiny", "", "Wide", ""], "figures are a network's own"
    assert family["tiny_wide"].scaling.width == 2
    assert [layer.name for layer in family["tiny_plain"].network.layers] == ["stem", "global_avg_pool", "classifier"]


def test_a_change_leaves_the_page_as_it_was() -> None:
    page = read_page(PAGE, "tiny.yaml")
    before = parse_page(page)
    override(page, {"network.stage.repeat": 9, "cell.b0.left.op": "identity", "scaling.depth": 2})
    assert parse_page(page) == before


def test_words_that_were_not_written_can_be_given() -> None:
    assert changed(scaling__depth=3).scaling.depth == 3
    assert changed(num_classes=100).num_classes == 100
    assert dict(changed(network__stem__stride=2).network.layers[0].body.kwargs)["stride"] == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("value", ["conv_bn_3x3", Row(["conv_bn_3x3", "relu"])])
def test_a_layer_keeps_its_name_whatever_it_becomes(value: object) -> None:
    assert changed(network__stem=value).network.layers[0].name == "stem"


def test_layers_are_found_by_their_natural_names_and_numbers() -> None:
    last = changed(network__classifier__bias=False).network.layers[-1].body
    assert last == Op(name="classifier", kwargs=(("bias", False),))
    assert last == changed(network__3__bias=False).network.layers[-1].body


@pytest.mark.parametrize("path", ["cells.cell.layers.b0.branches.left.op", "cell.b0.left.op", "cell.b0.0.op"])
def test_a_path_may_be_a_decisions_key(path: str) -> None:
    spec = parse_page(override(read_page(PAGE, "tiny.yaml"), {path: "max_pool_3x3"}))
    body = spec.cells["cell"].layers.layers[0].body
    assert isinstance(body, Parallel)
    assert body.branches[0].body == Op(name="max_pool", kwargs=(("kernel_size", 3),))
    assert body.branches[0].name == "left"
    assert body.branches[0].sources == ("x",)


@pytest.mark.parametrize(("changes", "message"), [
    ({"network.stag.repeat": 3}, "the path network.stag.repeat leads nowhere.*'stage'"),
    ({"netwrk.stage.repeat": 3}, "leads nowhere.*'network'"),
    ({"network.stage.repeat.times": 3}, "leads nowhere"),
    ({"network.stage.channel": 3}, "unknown word.*'channels'"),
    ({"inputt": [3, 8, 8]}, "unknown word in the page.*'input'"),
    ({"network.9": None}, "leads nowhere"),
])  # fmt: skip
def test_a_wrong_path_names_the_nearest(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=f"(?s)tiny.yaml.*{message}"):
        parse_page(override(read_page(PAGE, "tiny.yaml"), changes))


@pytest.mark.parametrize(("variants", "message"), [
    ("{other: {like: othr}}", "an unknown variant.*'other'"),
    ("{other: {like: other}}", "like itself"),
    ("{other: 3}", "variant other is a mapping"),
    ("[other]", "variants is a mapping"),
])  # fmt: skip
def test_wrong_variants(tmp_path: Path, variants: str, message: str) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(PAGE[: PAGE.index("variants:")] + f"variants: {variants}\n")
    with pytest.raises(SpaceError, match=f"(?s)tiny.yaml.*{message}"):
        parse_family(file)
