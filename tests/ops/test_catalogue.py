"""Every operation, in every case of the table: the sketch tells the truth, and the module behaves."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import nas.ops
from nas.errors import ShapeError, SpaceError
from nas.ops import OPS, Sketch, find, register, resolve
from nas.ops.sketch import conv_size
from tests.ops.cases import CASES, Case, built, constructor, fed, sketched

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_op = pytest.mark.parametrize("name", sorted(OPS))


@every_op
def test_every_operation_has_a_case(name: str) -> None:
    assert name in {case.name for case in CASES}


@pytest.mark.parametrize("name", sorted(n for n, s in OPS.items() if s.sketch.__annotations__["return"] == "None"))
def test_words_are_the_constructors(name: str) -> None:
    """Where the sketch does not return the arguments itself."""
    spec, parameters = OPS[name], constructor(name)
    words = {p.name: p.default for p in parameters.values() if p.name not in spec.takes}
    assert list(parameters)[: len(spec.takes)] == list(spec.takes)
    assert words == {**dict.fromkeys(spec.required, inspect.Parameter.empty), **spec.defaults}
    assert all(word in words for word in spec.scaled)


@every_op
def test_says_what_it_is(name: str) -> None:
    assert OPS[name].summary.endswith(".")


@every_case
def test_sketch_is_the_module(case: Case) -> None:
    """The counter does not see fused attention, so it runs as plain matrix products here; nor a fused LSTM."""
    sketch, module, inputs = sketched(case), built(case).eval(), fed(case, batch=1)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        output = module(*inputs)
    assert sketch.shape == tuple(output.shape[1:])
    assert sketch.num_params == sum(p.numel() for p in module.parameters())
    if case.name == "lstm":  # by hand: torch's GRU is counted, and has three of the LSTM's four gates
        assert sketch.macs * 3 == sketched(case._replace(name="gru")).macs * 4
    else:
        assert sketch.macs == counter.get_total_flops() / 2


@every_case
def test_trains(case: Case) -> None:
    module, inputs = built(case).train(), fed(case)
    output = module(*inputs)
    assert output.isfinite().all()
    if parameters := {name: p for name, p in module.named_parameters() if p.requires_grad}:
        (output * torch.randn_like(output)).sum().backward()
        without = [name for name, p in parameters.items() if p.grad is None or not p.grad.isfinite().all()]
        assert not without


@every_case
def test_evaluates_alike_twice_and_in_bfloat16(case: Case) -> None:
    """Also in the other memory layout of maps."""
    module, inputs = built(case).eval(), fed(case)
    with torch.no_grad():
        first, second = module(*inputs), module(*inputs)
        if all(x.dim() == 4 for x in inputs):
            last = module.to(memory_format=torch.channels_last)
            torch.testing.assert_close(last(*(x.to(memory_format=torch.channels_last) for x in inputs)), first)
        with torch.autocast("cpu", torch.bfloat16):
            half = module(*inputs)
    assert torch.equal(first, second)
    assert half.shape == first.shape
    assert half.isfinite().all()
    assert (half.float() - first).abs().mean() < 0.1 * (1 + first.abs().mean())


WORDS = {
    "activation": ["relu", "gelu"], "attention": ["none", "se", "eca", "cbam"], "branch": ["shuffle", "xception"],
    "gate": ["sigmoid", "hard_sigmoid"], "mode": ["nearest", "bilinear", "transposed"],
    "norm": ["before", "after"], "position": ["table", "log", "none"],
    "project": ["conv", "factorized", "relu_factorized"], "relu": ["before", "after", "none"],
    "shortcut": ["projection", "pad"],
}  # fmt: skip


def values(name: str, default: object) -> st.SearchStrategy[object]:
    """Values for a word, possible or not."""
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, str):
        return st.sampled_from(WORDS[name])
    if isinstance(default, float):
        return st.sampled_from([-1.0, 0.0, 0.1, 0.5, 1.0, 2.0])
    return st.sampled_from([-1, 0, 1, 2, 3, 4, 5, 8, *([None] if default is None else [])])


@every_op
@settings(max_examples=10, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_words_are_refused_or_come_true(name: str, data: st.DataObject) -> None:
    """A sketch that accepts its words has the shape and parameters of the module made with them."""
    spec = OPS[name]
    shape = data.draw(st.sampled_from([s for case in CASES if case.name == name for s in case.shapes[:1]]))
    words = {word: data.draw(st.sampled_from([1, 2, 6, 8])) for word in spec.required}
    some = data.draw(st.lists(st.sampled_from(sorted(spec.defaults)), max_size=3, unique=True)) if spec.defaults else []
    words |= {word: data.draw(values(word, spec.defaults[word])) for word in some}
    case = Case(name, words, (shape,) if spec.inputs == 1 else (shape, shape))
    try:
        sketch = sketched(case)
    except ShapeError:
        return
    with torch.device("meta"):
        module = built(case).eval()
        output = module(*(torch.empty(1, *shape) for shape in case.shapes))
    assert sketch.shape == tuple(output.shape[1:])
    assert sketch.num_params == sum(p.numel() for p in module.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OPS))
def test_exports(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    module, inputs = built(case).eval(), fed(case)
    with warnings.catch_warnings():
        if name in ("lstm", "gru"):  # torch flattens their weights anew while it traces, and says so
            warnings.filterwarnings("ignore", "The tensor attributes")
        program = torch.export.export(module, tuple(inputs))
    torch.testing.assert_close(program.module()(*inputs), module(*inputs))


def test_importing_the_vocabulary_leaves_torch_alone() -> None:
    code = "import sys, nas.ops; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_sized_word_stands_for_a_kernel() -> None:
    assert resolve("sep_conv_5x5") == ("sep_conv", {"kernel_size": 5})
    assert resolve("relu_conv_bn_1x7") == ("relu_conv_bn", {"kernel_size": (1, 7)})
    assert resolve("identity") == ("identity", {})


@pytest.mark.parametrize(("word", "near"), [("sep_cnov_3x3", "sep_conv_3x3"), ("mbcon", "mbconv"), ("add_3x3", "_3x3")])
def test_an_unknown_word_names_the_nearest(word: str, near: str) -> None:
    with pytest.raises(SpaceError, match=near):
        resolve(word)
    with pytest.raises(SpaceError):
        find(word)


def test_a_name_is_given_once() -> None:
    with pytest.raises(SpaceError, match="already"):
        register(OPS["conv"])


def test_modules_import_torch_alone() -> None:
    """An export prints their source, so they know nothing of the framework but each other."""
    folder = Path(nas.ops.__file__).parent / "modules"
    foreign = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            foreign |= {name for name in names if not name.startswith(("torch", "nas.ops.modules"))}
    assert foreign <= {"__future__", "math", "itertools"}


@settings(deadline=None)
@given(size=st.integers(1, 40), kernel=st.integers(1, 9), stride=st.integers(1, 4), padding=st.integers(0, 4),
       ceil=st.booleans())  # fmt: skip
def test_conv_size_is_torchs(size: int, kernel: int, stride: int, padding: int, ceil: bool) -> None:
    if size + 2 * padding < kernel or 2 * padding > kernel:
        return
    pooled = torch.nn.functional.max_pool1d(torch.zeros(1, 1, size), kernel, stride, padding, ceil_mode=ceil)
    assert conv_size(size, kernel, stride, padding, ceil=ceil) == pooled.shape[-1]


def test_a_sketch_knows_maps_from_tokens() -> None:
    with pytest.raises(SpaceError, match="feature maps"):
        Sketch((4, 8)).map()
    with pytest.raises(SpaceError, match="works on tokens"):
        Sketch((8, 4, 4)).tokens()
