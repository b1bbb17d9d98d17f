"""What is measured of a module, and what its sketch tells: the same over the whole catalogue. Lowering's calls build."""

from __future__ import annotations

import pytest
import torch

from nas.net.build import make_module
from nas.net.steps import make_call
from nas.ops import OPS, Sketch
from nas.ops.measured import Measured, measure
from tests.ops.cases import CASES, Case, sketched

DIRECT = [case for case in CASES if OPS[case.name].sketch(Sketch(*case.shapes), **case.words) is None]
"""Those whose module takes the operation's own words."""


@pytest.mark.parametrize("case", DIRECT, ids=str)
def test_torch_counts_what_the_sketch_tells(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if case.words.get("position") == "log":  # a network makes the positions' table, once for all samples
        monkeypatch.setattr("nas.ops.measured._BATCH", 1)
    spec, sketch = OPS[case.name], sketched(case)
    found = measure(spec.name, spec.load(), spec.takes, case.shapes, case.words)
    assert found == Measured(sketch.shape, sketch.num_params, sketch.macs)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_call_that_lowering_makes_builds(case: Case) -> None:
    call = make_call(OPS[case.name], dict(case.words), case.shapes)
    with torch.device("meta"), torch.no_grad():
        output = make_module(call).eval()(*(torch.empty(2, *shape) for shape in case.shapes))
        assert tuple(output.shape) == (2, *call.shape)
