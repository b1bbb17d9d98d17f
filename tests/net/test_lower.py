"""Lowering: what is inferred, how layers are wired, what is told when they cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from nas.errors import ShapeError, SpaceError
from nas.net import scope
from nas.net.graph import Call, Size
from nas.net.lower import lower
from nas.net.steps import scale_channels, scale_depth
from nas.ops import OPS, OpSpec, Sketch
from nas.space.parse import parse_text
from nas.space.search_space import Architecture
from nas.space.spec import Layer, Op, Sequential, Spec
from tests.net.nets import in_cell, inputs, lowered, names

CONV = {"name": "c1", "op": "conv_bn", "out_channels": 8}


# -- what is inferred ----------------------------------------------------------------------------------------------------


def test_channels_classes_and_strides_are_inferred() -> None:
    graph = lowered({"op": "conv_bn", "stride": 2}, "global_avg_pool", "classifier")
    assert [node.shape for node in graph.nodes] == [(4, 4, 4), (4,), (5,)]
    assert in_cell("conv_bn").shape == (8, 8, 8)
    assert in_cell("conv_bn", "conv_bn", stride=2).shapes() == {"x": (4, 8, 8), "conv_bn": (8, 4, 4), "conv_bn_2": (8, 4, 4)}
    assert in_cell("relu", "conv_bn", stride=2).shape == (8, 4, 4)
    assert in_cell("conv_bn", stride=2, use={"stride": 1}).shape == (8, 8, 8)


def test_words_that_say_the_default_are_left_out() -> None:
    plain, said = (lowered(layer).nodes[0].target for layer in ("conv_bn", {"op": "conv_bn", "kernel_size": 3, "stride": 1}))
    assert isinstance(plain, Call)
    assert isinstance(said, Call)
    assert plain.kwargs == said.kwargs == {"in_channels": 4, "out_channels": 4}


def test_a_number_that_equals_the_default_does_not_change_what_is_remembered() -> None:
    whole, fraction = (lowered({"op": "mbconv", "se_ratio": value}).nodes[0].target for value in (0, 0.0))
    assert isinstance(whole, Call)
    assert isinstance(fraction, Call)
    assert whole.num_params == fraction.num_params


def test_size() -> None:
    layers: list[Any] = [{**CONV, "stride": 2}, "global_avg_pool", "classifier"]
    layers.insert(1, {"name": "s", "repeat": 3, "op": "conv_bn", "out_channels": 16})
    graph = lowered(*layers, size=Size(width=0.5, depth=0.5, input=(3, 12, 10), num_classes=2), scaling={"divisor": 4})
    assert graph.shapes() == {"x": (3, 12, 10), "c1": (4, 6, 5), "s.0": (8, 6, 5), "s.1": (8, 6, 5), "global_avg_pool": (8,),
                              "classifier": (2,)}  # fmt: skip


def test_compound_scaling_and_layers_that_stay() -> None:
    scaling = {"alpha": 2, "beta": 2, "gamma": 1.5, "phi": 1, "resolution": 8}
    graph = lowered(CONV, {"repeat": 1, "op": "conv_bn", "out_channels": 8}, scaling=scaling)
    assert [node.shape for node in graph.nodes] == [(16, 12, 12), (16, 12, 12), (16, 12, 12)]
    kept = lowered({"layers": [CONV, {"repeat": 1, "op": "conv_bn", "out_channels": 8}], "scale": False}, scaling=scaling)
    assert [node.shape for node in kept.nodes] == [(8, 12, 12), (8, 12, 12)]


@pytest.mark.parametrize(("channels", "width", "divisor", "expected"), [
    (32, 1.0, 8, 32), (33, 1.0, 8, 33), (32, 1.1, 8, 32), (32, 1.4, 8, 48), (16, 0.5, 8, 8), (24, 0.35, 8, 8), (8, 0.1, 8, 8),
    (1280, 1.2, 8, 1536), (32, 0.34, 8, 16), (10, 0.5, 1, 5),
])  # fmt: skip
def test_scaled_channels(channels: int, width: float, divisor: int, expected: int) -> None:
    assert scale_channels(channels, width, divisor) == expected
    assert width == 1.0 or expected >= 0.9 * channels * width


def test_scaled_depths_are_rounded_up() -> None:
    assert [scale_depth(times, 1.1) for times in (0, 1, 2, 10)] == [0, 2, 3, 11]
    assert scale_depth(6, 1 / 3) == 2
    assert scale_depth(7, 1.0) == 7


# -- wiring --------------------------------------------------------------------------------------------------------------


def test_sources_by_name_and_by_how_far_back() -> None:
    layers = [CONV, {"name": "r", "op": "relu"}, {"name": "j", "op": "add", "from": [-1, -2]}]
    layers.append({"name": "k", "op": "relu", "from": "c1"})
    assert inputs(lowered(*layers, {"op": "concat", "from": ["k", -2]})) == {
        "c1": ("x",), "r": ("c1",), "j": ("r", "c1"), "k": ("c1",), "concat": ("k", "j")}  # fmt: skip
    assert inputs(lowered({"name": "r", "op": "relu", "from": -9}))["r"] == ("x",)


def test_repeats_are_spliced() -> None:
    graph = lowered(CONV, {"name": "s", "repeat": 3, "op": "relu"}, {"op": "add", "from": [-1, -3]})
    assert inputs(graph)["add"] == ("s.2", "s.0")


@pytest.mark.parametrize("inner", [{"op": "conv_bn"}, {"layers": ["conv_bn"]}, {"branches": ["conv_bn"], "combine": "add"}])
def test_the_first_repetition_reads_what_is_named_and_the_others_the_one_before(inner: dict[str, Any]) -> None:
    graph = lowered(CONV, {"name": "far", "op": "relu"}, {"name": "s", "repeat": 2, "from": "c1", **inner})
    first, second = [node for node in graph.nodes if node.name.startswith("s.")]
    assert (first.inputs, second.inputs) == (("c1",), (first.name,))
    assert "far" not in names(graph)


def test_sources_that_count_back_hold_for_every_repetition() -> None:
    graph = lowered(CONV, "relu", {"name": "s", "repeat": 2, "op": "add", "from": [-1, -2]})
    assert inputs(graph)["s.1"] == ("s.0", "relu")


def test_repeats_in_a_branch_and_no_repeat_at_all() -> None:
    branches = [{"repeat": 2, "op": "conv_bn"}, {"repeat": 0, "op": "conv_bn"}]
    graph = lowered({"name": "b", "branches": branches, "combine": "add"})
    assert inputs(graph) == {"b.0.0": ("x",), "b.0.1": ("b.0.0",), "b.add": ("b.0.1", "x")}
    assert names(lowered(CONV, {"repeat": 0, "op": "relu", "from": "x"}, "relu"))[-1] == "relu_2"
    assert inputs(lowered(CONV, {"repeat": 0, "op": "relu", "from": "x"}, "sigmoid" if "sigmoid" in OPS else "batch_norm"))


def test_the_first_repetition_may_differ() -> None:
    graph = lowered(CONV, "relu", {"name": "s", "repeat": 2, "op": "conv_bn", "first": {"stride": 2, "from": ["c1"]}})
    assert [node.shape for node in graph.nodes if node.name.startswith("s")] == [(8, 4, 4), (8, 4, 4)]
    assert inputs(graph)["s.0"] == ("c1",)


def test_more_repetitions_than_bodies_share_them_evenly() -> None:
    layers = [{"name": "s", "repeat": 2, "each": ["relu", "batch_norm"]}]
    calls = [node.target for node in lowered(*layers, size=Size(depth=2)).nodes]
    assert [call.op for call in calls if isinstance(call, Call)] == ["relu", "relu", "batch_norm", "batch_norm"]


def test_branches_read_together_apart_or_on_their_own() -> None:
    stem = [CONV, {"name": "r", "op": "relu"}]
    pair = ["relu", "batch_norm"]
    together = lowered(*stem, {"name": "b", "branches": pair, "combine": "add"})
    apart = lowered(*stem, {"name": "b", "branches": pair, "combine": "add", "from": ["c1", "r"]})
    own = lowered(*stem, {"name": "b", "branches": [{"op": "relu", "from": "c1"}, {"op": "relu", "from": -2}], "combine": "add"})
    assert [inputs(g)["b.0"] for g in (together, apart, own)] == [("r",), ("c1",), ("c1",)]
    assert [inputs(g)["b.1"] for g in (together, apart, own)] == [("r",), ("r",), ("c1",)]


def test_none_leaves_out_its_own_branch() -> None:
    graph = lowered(CONV, "relu", {"name": "b", "branches": ["relu", "batch_norm"], "combine": "add", "from": ["none", "c1"]})
    assert inputs(graph) == {"c1": ("x",), "b.1": ("c1",)}


def test_inner_layers_may_read_one_another() -> None:
    inner = [{"name": "a", "op": "relu"}, "batch_norm", {"op": "add", "from": ["a", -1]}]
    assert inputs(lowered({"name": "l", "layers": inner}))["l.2"] == ("l.a", "l.1")


def test_what_changes_nothing_or_is_nothing_leaves_no_trace() -> None:
    assert names(lowered("identity", "relu", "identity")) == ["relu"]
    both = {"name": "b", "branches": ["zero", "relu"], "combine": "add"}
    assert names(lowered(both)) == ["b.1"]
    assert names(lowered({"name": "b", "branches": ["relu", "relu"], "combine": "add"})) == ["b.0", "b.1", "b.add"]
    assert names(lowered(CONV, {"op": "relu", "from": "x"})) == ["relu"]


# -- cells ---------------------------------------------------------------------------------------------------------------


def test_equal_uses_of_a_cell_share_one_graph() -> None:
    use = {"name": "s", "repeat": 3, "cell": "c", "channels": 4}
    first, second, third = (node.target for node in lowered(use, cells={"c": {"layers": ["conv_bn"]}}).nodes)
    assert first is second is third


def test_a_cell_reads_the_last_layers() -> None:
    cell = {"inputs": ["p", "q"], "layers": [{"op": "add", "from": ["p", "q"]}]}
    uses = [{"name": f"u{i}", "cell": "c"} for i in range(3)]
    assert inputs(lowered(*uses, cells={"c": cell})) == {"u0": ("x", "x"), "u1": ("u0", "u0"), "u2": ("u1", "u0")}


@pytest.mark.parametrize(("policy", "expected"), [
    ({"project": "never"}, ["conv_bn"]),
    ({"project": "when_different"}, ["p_projection", "conv_bn"]),
    ({"project": "always"}, ["p_projection", "conv_bn"]),
    ({"project": "calibrate"}, ["p_projection", "p_base", "conv_bn"]),
])  # fmt: skip
def test_inputs_are_projected(policy: dict[str, str], expected: list[str]) -> None:
    assert names(in_cell("conv_bn", inputs={"p": policy})) == expected
    same = names(in_cell("conv_bn", inputs={"p": policy}, use={"channels": 4}))
    assert same == [n for n in expected if n != "p_projection" or policy["project"] == "always"]


def test_an_older_input_is_brought_to_the_size_of_the_newer() -> None:
    cell = {"inputs": {"p": {}, "q": {"project": "when_different"}}, "layers": [{"op": "add", "from": ["p", "q"]}]}
    layers = ["relu", {"name": "d", "op": "conv_bn", "stride": 2}, {"name": "u", "cell": "c"}]
    target = lowered(*layers, cells={"c": cell}).nodes[-1].target
    assert [call.op for _, call in target.calls()] == ["factorized_reduction", "add"]


def test_an_absent_input_may_stay_raw() -> None:
    cell = {"inputs": {"p": {"project": "always"}, "q": {"project": "always", "absent": "raw"}},
            "layers": [{"op": "concat", "from": ["p", "q"]}]}  # fmt: skip
    assert inputs(lowered({"cell": "c"}, cells={"c": cell}).nodes[0].target)["concat"] == ("p_projection", "q")


def test_an_output_of_what_no_layer_reads() -> None:
    layers = ["conv_bn", {"name": "i", "op": "identity", "from": "x"}, {"name": "last", "op": "conv_bn", "from": "x"}]
    graph = in_cell(*layers, use={"channels": 4})
    assert inputs(graph)["output.concat"] == ("conv_bn", "x", "last")


def test_outputs_of_other_sizes_are_matched() -> None:
    graph = in_cell("conv_bn", stride=2, output=["x", "conv_bn"])
    assert inputs(graph) == {"conv_bn": ("x",), "x_match": ("x",), "output.concat": ("x_match", "conv_bn")}
    assert graph.shape == (16, 4, 4)


def test_branches_of_a_cell_get_its_width_unless_they_keep_theirs() -> None:
    branch = {"name": "b", "branches": ["relu", "conv_bn"], "combine": "concat"}
    assert in_cell(branch).shape == (16, 8, 8)
    assert in_cell(branch, match=None).shape == (12, 8, 8)
    assert in_cell(branch, stride=2, match="conv_bn_1x1").shape == (16, 4, 4)


def test_cells_in_cells() -> None:
    cells = {"a": {"layers": ["conv_bn"]}, "b": {"layers": [{"name": "i", "cell": "a"}]}}
    assert [name for name, _ in lowered({"name": "u", "cell": "b"}, cells=cells).calls()] == ["u.i.conv_bn"]


def test_unused_inputs_are_not_asked_for() -> None:
    cell = {"inputs": ["p", "q"], "layers": ["relu"]}
    graph = lowered(CONV, {"name": "r", "op": "relu"}, {"cell": "c"}, cells={"c": cell})
    assert inputs(graph) == {"c1": ("x",), "r": ("c1",), "c": ("r",)}


# -- what cannot be ------------------------------------------------------------------------------------------------------

TROUBLE: list[tuple[list[Any], dict[str, Any], str, str]] = [
    (["global_avg_pool", {"name": "a", "op": "conv_bn"}], {}, "network.a", "works on feature maps"),
    ([CONV, {"name": "a", "op": "relu", "from": ["c1", "x"]}], {}, "network.a", "relu takes 1 input; got 2"),
    ([CONV, {"name": "a", "op": "add", "from": ["c1", "x"]}], {}, "network.a", "add needs inputs of one shape"),
    ([{"name": "b", "branches": ["relu", {"name": "d", "op": "conv_bn", "out_channels": 8}], "combine": "add"}], {},
     "network.b", "add needs inputs of one shape"),
    ([CONV, {"name": "b", "branches": [["relu", {"op": "relu", "from": ["x", "c1"]}]], "combine": "add"}], {},
     "network.b.0.1", "relu takes 1 input; got 2"),
    ([{"name": "b", "branches": ["relu", "relu"], "combine": "add", "from": ["none", "none"]}], {},
     "network.b", "nothing to join"),
    ([{"name": "a", "op": "relu", "from": "none"}], {}, "network.a", "relu takes 1 input; got 0"),
    ([{"name": "u", "cell": "c", "from": "none"}], {"c": {"layers": ["relu"]}}, "network.u", "cell c takes 1 to 1 inputs; got 0"),
    ([CONV, {"name": "l", "layers": ["relu"], "from": ["x", "c1"]}], {}, "network.l", "a list of layers has one input"),
    ([{"name": "u", "cell": "c", "from": ["x", "x"]}], {"c": {"layers": ["relu"]}},
     "network.u", "cell c takes 1 to 1 inputs; got 2"),
    ([{"name": "u", "cell": "c"}], {"c": {"layers": ["relu"], "stride": 2}}, "network.u", "nothing in cell c strides"),
    ([{"name": "u", "cell": "c"}], {"c": {"layers": ["transposed_conv"], "stride": 2}}, "network.u", "nothing in cell c str"),
    ([{"name": "u", "cell": "c"}], {"c": {"layers": [{"name": "b", "op": "conv_bn", "out_channels": 8}], "output": ["x", "b"],
                                          "combine": "add"}}, "network.u", "add needs inputs of one shape"),
    ([{"name": "u", "cell": "c"}], {"c": {"layers": ["global_avg_pool", {"name": "b", "op": "conv_bn"}]}}, "c.b", "works on f"),
    ([{"name": "a", "op": "conv_bn", "stride": 0}], {}, "network.a", "stride|zero"),
]  # fmt: skip


@pytest.mark.parametrize(("layers", "cells", "path", "said"), TROUBLE, ids=range(len(TROUBLE)))
def test_impossible_wiring_is_told_with_its_path(layers: list[Any], cells: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(SpaceError, match=said) as caught:
        lowered(*layers, cells=cells)
    assert caught.value.where == path


def test_file_and_line_are_told() -> None:
    text = "name: net\nnetwork:\n  - global_avg_pool\n  - name: a\n    op: conv_bn\n"
    with pytest.raises(ShapeError) as caught:
        lower(Architecture(parse_text(text, "p.yaml")))
    assert caught.value.where == "p.yaml:4: network.a"


def test_a_source_that_python_misspelt() -> None:
    layers = (Layer(name="a", body=Op(name="relu"), sources=("b",)),)
    with pytest.raises(SpaceError, match=r"network\.a: unknown source.*got 'b'"):
        lower(Architecture(Spec(name="net", network=Sequential(layers=layers))))


@pytest.mark.parametrize("words", [("kernal_size", 3), ("kernel_size", "3"), ("out_channels", 8.0), ("stride", True)])
def test_words_that_python_got_wrong(words: Any) -> None:
    layers = (Layer(name="a", body=Op(name="conv_bn", kwargs=(words,))),)
    with pytest.raises(SpaceError, match=r"network\.a: "):
        lower(Architecture(Spec(name="net", network=Sequential(layers=layers))))


def test_a_sketch_that_stumbles_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def sketch(s: Sketch, *, parts: int = 1) -> None:
        s.shape = (s.shape[0] // parts,)

    spec = OpSpec(name="split", module="torch.nn:ReLU", sketch=sketch, takes=(), defaults={"parts": 1})
    monkeypatch.setitem(OPS, "split", spec)
    with pytest.raises(SpaceError, match=r"network\.split: split cannot work with these words.*got 'parts: 0'"):
        lowered({"op": "split", "parts": 0})


def test_networks_that_unfold_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope, "MAX_LAYERS", 100)
    nested: Any = "identity"
    for _ in range(4):
        nested = {"repeat": 1000, "layers": [nested]}
    with pytest.raises(SpaceError, match="too many layers"):
        lowered(nested)
