"""What a search measures, and what is refused before it begins."""

from __future__ import annotations

import random
import re

import pytest

from nas.errors import MeasureError, UsageError
from nas.search.config import SearchConfig
from nas.search.measuring import check_measuring, known_metrics, measure_words, measured_apart
from nas.search.run import RunFolder
from nas.search.settled import Settled
from nas.space.library import load_space
from nas.space.page import read_page
from nas.space.parse import parse_page
from tests.search.fakes import MANY, settled


def asked(**words):
    return SearchConfig.from_words({"space": "nasnet_cell", "data": "digits", "budget": "2h", **words})


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(MeasureError, match="no such device"):
        check_measuring(asked(target="cuda"), "cpu", load_space("nasnet_cell").spec, say=print)


@pytest.mark.parametrize(("words", "told"), [
    ({}, r"eager \S+ \(what runs the first of formats=py\)"), ({"runtime": "eager", "formats": "onnx"}, r"eager \S+"),
    ({"formats": "onnx"}, r"onnxruntime \S+ \(what runs the first of formats=onnx\)"),
    ({"formats": "onnx", "objectives": "accuracy,macs"}, None),
])  # fmt: skip
def test_by_what_it_is_measured_is_told(words, told, monkeypatch):
    monkeypatch.setattr("nas.measure.runtime.find_spec", lambda name: name)
    said: list[str] = []
    check_measuring(asked(**words), "cpu", load_space("nasnet_cell").spec, say=said.append)
    assert [re.search(rf"^measured on: .*, {told}$", line) is not None for line in said] == [True] * (told is not None)


def test_an_engine_that_is_not_installed_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setattr("nas.measure.runtime.find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(MeasureError, match=r"needs onnxruntime, which.*pip install 'nas\[onnx\]'"):
        check_measuring(asked(formats="onnx"), "cpu", load_space("nasnet_cell").spec, say=print)


def test_the_choice_is_kept_with_the_run(tmp_path):
    chosen = settled(objectives="accuracy,latency", formats="onnx,py")
    assert Settled.from_mapping(chosen.to_mapping(), "here").config.runtime == "onnxruntime"
    words = measure_words(chosen, RunFolder(tmp_path))
    assert words is not None
    assert words["runtime"] == "onnxruntime"


def test_a_page_with_a_limit_that_is_none_is_told_with_its_place():
    spec = parse_page(read_page(MANY + "constraints: [latncy<=3ms]\n", "page.yaml"))
    with pytest.raises(UsageError, match=r"^page.yaml:\d+: constraints: .*latncy.*latency"):
        check_measuring(asked(), "cpu", spec, say=print)
    with pytest.raises(UsageError) as caught:
        check_measuring(asked(constraint="latncy<=3ms"), "cpu", load_space("nasnet_cell").spec, say=print)
    assert caught.value.where is None


@pytest.mark.parametrize(("objectives", "measured"), [
    ("accuracy,num_params", None), ("accuracy,memory", ["memory"]), ("accuracy,weight_bytes", ["weight_bytes"]),
    ("accuracy,throughput", ["latency", "throughput"]),
])  # fmt: skip
def test_what_is_measured(tmp_path, objectives, measured):
    words = measure_words(settled(objectives=objectives), RunFolder(tmp_path))
    assert (words and words["metrics"]) == measured


def test_what_is_known_without_measuring():
    chosen = settled(objectives="accuracy,num_params,latency")
    known = known_metrics(chosen.objectives, chosen.constraints, chosen.plan.deploy)
    assert known is not None
    assert known(chosen.space.sample(random.Random(0))).keys() == {"num_params"}


@pytest.mark.parametrize(("target", "apart"), [("cpu", False), ("http://board:8000", True), ("cuda@H200", True)])
def test_where_it_is_measured(target, apart):
    assert measured_apart(target) == apart
