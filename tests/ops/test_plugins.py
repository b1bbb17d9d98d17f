"""A user's own operations: entered, loaded, named in a page, measured, refused."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nas
from nas.errors import NasError, RunError, ShapeError, SpaceError, UsageError
from nas.net.build import build
from nas.net.identity import identity
from nas.net.lower import lower
from nas.net.render.source import Sources
from nas.ops import OPS, Sketch, find, plugins, resolve
from nas.ops.catalogue import ALIASES
from nas.space.parse import parse_text
from nas.space.search_space import Architecture, SearchSpace
from nas.space.unparse import to_page, to_yaml
from tests.ops.plugins import MY_OPS

PAGE = """
name: mine
input: [3, 8, 8]
network:
  - {{op: "{0}", out_channels: 6, stride: 2}}
  - choice: ["{0}", conv_bn]
  - global_avg_pool
  - classifier
"""


def test_words_come_from_the_constructor(my_ops: Path) -> None:
    spec = find("squeezed_conv")
    assert (spec.required, dict(spec.defaults)) == (("out_channels",), {"kernel_size": 3, "stride": 1})
    assert (spec.takes, spec.inputs, spec.scaled) == (("in_channels",), 1, ("out_channels",))
    assert spec.summary == "A 1x1 convolution to half the channels, then a convolution."
    assert resolve("my_ops.py:SqueezedConv") == resolve("folder/my_ops.py:SqueezedConv") == ("squeezed_conv", {})
    assert resolve("squeezed_conv_5x5") == ("squeezed_conv", {"kernel_size": 5})


def test_torch_counts_what_has_no_sketch(my_ops: Path) -> None:
    sketch = Sketch((8, 7, 5))
    find("squeezed_conv").sketch(sketch, out_channels=6, stride=2)
    assert sketch.shape == (6, 4, 3)
    assert sketch.num_params == (8 * 4 + 4) + (4 * 6 * 9 + 6)
    assert sketch.macs == 8 * 4 * 35 + 4 * 6 * 9 * 12


def test_both_spellings_are_one_network(my_ops: Path) -> None:
    spaces = [SearchSpace(parse_text(PAGE.format(word))) for word in ("squeezed_conv", "my_ops.py:SqueezedConv")]
    assert spaces[0].spec == spaces[1].spec
    assert spaces[1].holes["network.choice"].labels == ("squeezed_conv", "conv_bn")
    architecture = spaces[1].architecture({"network.choice": "squeezed_conv"})
    graph = lower(architecture)
    network = build(graph).eval()
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 10)
    assert sum(p.numel() for p in network.parameters()) == graph.num_params
    assert parse_text(to_yaml(architecture.spec)) == architecture.spec
    assert identity(graph) != identity(lower(spaces[0].architecture({"network.choice": "conv_bn"})))


def test_wrong_words_are_told_before_anything_is_built(my_ops: Path) -> None:
    with pytest.raises(SpaceError, match=r"<text>|:5.*kernel_size has the wrong kind"):
        parse_text(PAGE.format("squeezed_conv").replace("stride: 2", "kernel_size: wide"))
    page = PAGE.format("squeezed_conv").replace("stride: 2", "kernel_size: 0").replace("choice: [", "choice: [identity, ")
    with pytest.raises(SpaceError, match="squeezed_conv cannot be built"):
        lower(Architecture(parse_text(page.replace('choice: [identity, "squeezed_conv", conv_bn]', "op: relu"))))


def test_a_page_loads_nothing(fresh_tables: None) -> None:
    with pytest.raises(SpaceError, match=r"not loaded.*plugins=my_ops\.py"):
        parse_text(PAGE.format("my_ops.py:SqueezedConv"))


def test_an_unknown_class_of_a_loaded_file(my_ops: Path) -> None:
    with pytest.raises(SpaceError, match=r"no such operation.*my_ops\.py:SqueezedConv"):
        parse_text(PAGE.format("my_ops.py:Squeezed"))


def test_a_file_is_loaded_once(my_ops: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = find("squeezed_conv").load()
    monkeypatch.chdir(my_ops.parent)
    nas.load_plugins(["my_ops.py", str(my_ops)])
    assert find("squeezed_conv").load() is module
    assert plugins.is_loaded("my_ops.py")


@pytest.mark.parametrize(("text", "says"), [
    ("x = 1", "no operation in it"), ("x = ", ":1: .*SyntaxError"), ("\n1 / 0", ":2: .*ZeroDivisionError"),
    ("import no_such_package", "ModuleNotFoundError"), (MY_OPS.replace("squeezed_conv", "conv_bn"), "already defined"),
    (MY_OPS + "\nraise ValueError('late')", "late"), (MY_OPS.replace("squeezed_conv", "a b"), "not an operation's name"),
    (MY_OPS.replace("stride: int", "*, stride: Nothing"), "Nothing"), (MY_OPS.replace("stride: int = 1", "**more"), r"\*\*more"),
    (MY_OPS.replace("self, x: Tensor", "self"), "takes no tensor"),
    (MY_OPS.replace('conv")', 'conv", sketch=lambda s, *, out_channels: None)'), "other words than its constructor"),
])  # fmt: skip
def test_a_broken_file_is_one_message_and_leaves_nothing(text: str, says: str, tmp_path: Path, fresh_tables: None) -> None:
    ops, aliases, path = dict(OPS), dict(ALIASES), tmp_path / "broken.py"
    path.write_text("from __future__ import annotations\n" + text if "Nothing" in text else text)
    with pytest.raises(SpaceError, match=f"^broken.py.*{says}"):
        nas.load_plugins([str(path)])
    assert (dict(OPS), dict(ALIASES)) == (ops, aliases)
    assert not plugins.is_loaded(str(path))
    path.write_text(MY_OPS)
    nas.load_plugins([str(path)])
    assert ALIASES["broken.py:SqueezedConv"] == "squeezed_conv"


@pytest.mark.parametrize("name", ["none.py", "./none", "no_entry_point"])
def test_what_is_not_there(name: str) -> None:
    with pytest.raises(UsageError, match="no such plugin"):
        nas.load_plugins([name])


def test_two_files_of_one_name(my_ops: Path) -> None:
    other = my_ops.parent / "other" / "my_ops.py"
    other.parent.mkdir()
    other.write_text(MY_OPS.replace("squeezed_conv", "squeezed_too"))
    with pytest.raises(SpaceError, match="rename one"):
        nas.load_plugins([str(other)])
    assert "squeezed_too" not in OPS


def test_a_copy_is_known_by_its_name_and_content(my_ops: Path) -> None:
    known = plugins.file_digest(str(my_ops))
    copy = my_ops.parent / "elsewhere" / "my_ops.py"
    copy.parent.mkdir()
    my_ops.rename(copy)
    nas.load_plugins([str(copy)])
    assert plugins.loaded_as(str(copy), known) == plugins.loaded_as("/gone/my_ops.py", known) == str(my_ops)
    assert plugins.loaded_as("/gone/my_ops.py", None) is None
    assert plugins.loaded_as("/gone/other.py", known) is None
    with pytest.raises(RunError, match="not what this run began with"):
        plugins.loaded_as(str(my_ops), "another")


def test_entry_points_are_loaded_by_name(tmp_path: Path, fresh_tables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nas_plugin_installed.py").write_text(MY_OPS)
    monkeypatch.syspath_prepend(tmp_path)
    points = EntryPoints([EntryPoint("lab", "nas_plugin_installed", plugins.GROUP)])
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    assert "squeezed_conv" not in OPS
    nas.load_plugins(["lab"])
    assert resolve("lab:SqueezedConv") == ("squeezed_conv", {})
    with pytest.raises(UsageError, match="Did you mean 'lab'"):
        nas.load_plugins(["labb"])


DIFFERENCE = '''\
import nas
from torch import Tensor, nn


@nas.op("difference")
class Difference(nn.Module):
    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0] - sum(inputs[1:])
'''


class Weighted(nn.Module):
    """A weighted sum of any number of inputs."""

    def __init__(self, in_channels: tuple[int, ...], start: float = 1.0) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.full((len(in_channels),), start))

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.stack([w * x for w, x in zip(self.weights, inputs, strict=True)]).sum(0)


def test_a_combine_of_ones_own(fresh_tables: None) -> None:
    nas.op("weighted", commutative=True)(Weighted)
    page = "name: w\nnetwork: [{branches: [conv_bn, relu, tanh], combine: weighted}]"
    graph = lower(Architecture(parse_text(page)))
    assert dict(graph.calls())[graph.output].num_params == 3
    swapped = lower(Architecture(parse_text(page.replace("relu, tanh", "tanh, relu"))))
    assert identity(graph) == identity(swapped)


def test_a_combine_of_a_file(fresh_tables: None, tmp_path: Path) -> None:
    page = 'name: w\nnetwork: [{branches: [conv_bn, relu], combine: "joins.py:Difference"}]'
    with pytest.raises(SpaceError, match=r"plugins=joins\.py"):
        parse_text(page)
    (tmp_path / "joins.py").write_text(DIFFERENCE)
    nas.load_plugins([str(tmp_path / "joins.py")])
    graph = lower(Architecture(parse_text(page)))
    assert build(graph)(torch.zeros(2, 3, 32, 32)).shape == (2, 3, 32, 32)
    swapped = lower(Architecture(parse_text(page.replace("conv_bn, relu", "relu, conv_bn"))))
    assert identity(graph) != identity(swapped), "a difference may not be swapped"


def tensor_of(make: Callable[[Tensor], Any]) -> type[nn.Module]:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return make(x)

    Odd.__qualname__ = "Odd"
    return Odd


@pytest.mark.parametrize(("make", "kind", "says"), [
    (lambda x: (x, x), SpaceError, "no tensor"), (lambda x: x.reshape(-1), SpaceError, "no tensor"),
    (lambda x: x @ x[:, :, :3], ShapeError, r"RuntimeError.*test_plugins\.py"),
    (lambda x: x.missing, ShapeError, "AttributeError"),
    (lambda x: x * float(x.sum()), ShapeError, "sketch"),
])  # fmt: skip
def test_what_cannot_be_measured_says_why(make: Any, kind: type[NasError], says: str, fresh_tables: None) -> None:
    nas.op("odd")(tensor_of(make))
    with pytest.raises(kind, match=says):
        lower(Architecture(parse_text("name: o\nnetwork: [odd]")))


def test_a_sketch_of_ones_own_is_believed(fresh_tables: None) -> None:
    calls: list[int] = []

    def sketch(s: Sketch, *, start: float) -> None:
        calls.append(1)
        s.params(7)

    nas.op("weighted", sketch=sketch)(Weighted)
    graph = lower(Architecture(parse_text("name: w\nnetwork: [weighted]")))
    assert (graph.num_params, calls) == (7, [1])


def test_a_class_inside_a_function_is_refused(fresh_tables: None) -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(SpaceError, match="top level"):
        nas.op("inner")(Inner)


def test_an_exported_operation_leaves_its_decorator_behind(my_ops: Path) -> None:
    sources = Sources()
    sources.add(find("squeezed_conv").module.partition(":")[0], "SqueezedConv")
    text = "\n".join(sources.definitions.values())
    assert list(sources.definitions) == ["half", "SqueezedConv"]
    assert "nas" not in text
    assert text.count("class SqueezedConv") == 1


def test_the_page_of_a_decided_space_names_the_operation(my_ops: Path) -> None:
    page = to_page(SearchSpace(parse_text(PAGE.format("my_ops.py:SqueezedConv"))).spec)
    assert page["network"][0]["op"] == "squeezed_conv"
