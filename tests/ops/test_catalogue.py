"""Every operation, in every case of the table: the sketch tells the truth, and the module behaves."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nas.errors import SpaceError
from nas.ops import OPS, Sketch, find, register, resolve
from nas.ops.sketch import conv_size
from tests.ops.cases import CASES, Case, built, constructor, fed, sketched

UNSEEN: dict[str, str] = {}
"""Operations some of whose multiply-adds torch's counter does not see, with the reason; they are counted by hand."""

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_op = pytest.mark.parametrize("name", sorted(OPS))


@every_op
def test_every_operation_has_a_case(name: str) -> None:
    assert name in {case.name for case in CASES}


@every_op
def test_words_are_the_constructors(name: str) -> None:
    spec, parameters = OPS[name], constructor(name)
    if inspect.get_annotations(spec.sketch)["return"] != "None":
        pytest.skip("the sketch returns the arguments of one of torch's own classes")
    words = {p.name: p.default for p in parameters.values() if p.name not in spec.takes}
    assert list(parameters)[: len(spec.takes)] == list(spec.takes)
    assert words == {**dict.fromkeys(spec.required, inspect.Parameter.empty), **spec.defaults}
    assert all(word in words for word in spec.scaled)


@every_op
def test_says_what_it_is(name: str) -> None:
    assert OPS[name].summary.endswith((".", "]", ":")) or len(OPS[name].summary) > 20


@every_case
def test_sketch_is_the_module(case: Case) -> None:
    sketch, module, inputs = sketched(case), built(case).eval(), fed(case, batch=1)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        output = module(*inputs)
    assert sketch.shape == tuple(output.shape[1:])
    assert sketch.num_params == sum(p.numel() for p in module.parameters())
    if case.name not in UNSEEN:
        assert sketch.macs == counter.get_total_flops() / 2


@every_case
def test_trains(case: Case) -> None:
    module, inputs = built(case).train(), fed(case)
    output = module(*inputs)
    assert output.isfinite().all()
    if parameters := dict(module.named_parameters()):
        (output * torch.randn_like(output)).sum().backward()
        without = [name for name, p in parameters.items() if p.grad is None or not p.grad.isfinite().all()]
        assert not without


@every_case
def test_evaluates_alike_twice_and_in_bfloat16(case: Case) -> None:
    module, inputs = built(case).eval(), fed(case)
    with torch.no_grad():
        first, second = module(*inputs), module(*inputs)
        with torch.autocast("cpu", torch.bfloat16):
            half = module(*inputs)
    assert torch.equal(first, second)
    assert half.shape == first.shape
    assert half.isfinite().all()
    assert (half.float() - first).abs().mean() < 0.1 * (1 + first.abs().mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OPS))
def test_exports(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    module, inputs = built(case).eval(), fed(case)
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
