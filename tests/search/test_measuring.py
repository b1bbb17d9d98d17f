"""What a search measures, and what is refused before it begins."""

from __future__ import annotations

import random
import re
from types import SimpleNamespace

import pytest

from nas.errors import MeasureError, NasError, UsageError
from nas.measure.table import LatencyTable, Sums
from nas.measure.target import conditions_at
from nas.net.build import build
from nas.net.graph import Size
from nas.net.lower import lower
from nas.search import measuring
from nas.search.config import SearchConfig
from nas.search.measuring import check_measuring, known_metrics, latency_table, measure_words, measured_apart
from nas.search.run import RunFolder
from nas.search.settled import Settled
from nas.space.library import load_space
from nas.space.page import read_page
from nas.space.parse import parse_page
from nas.space.search_space import Architecture
from tests.search.fakes import MANY, FakeExecutor, accuracy_of, run_loop, settled, space_of


def asked(**words):
    return SearchConfig.from_words({"space": "nasnet_cell", "data": "digits", "budget": "2h", **words})


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(MeasureError, match="no such device"):
        check_measuring(asked(target="cuda"), "cpu", load_space("nasnet_cell").spec)


@pytest.mark.parametrize(("words", "told"), [
    ({}, r"eager \S+ \(what runs the first of formats=py\)"), ({"runtime": "eager", "formats": "onnx"}, r"eager \S+"),
    ({"formats": "onnx"}, r"onnxruntime \S+ \(what runs the first of formats=onnx\)"),
    ({"formats": "onnx", "objectives": "accuracy,macs"}, None),
])  # fmt: skip
def test_by_what_it_is_measured_is_told(words, told, monkeypatch):
    monkeypatch.setattr("nas.measure.runtime.find_spec", lambda name: name)
    said = check_measuring(asked(**words), "cpu", load_space("nasnet_cell").spec)
    assert [re.search(rf"^measured on: .*, {told}$", line) is not None for line in said] == [True] * (told is not None)


def test_an_engine_that_is_not_installed_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setattr("nas.measure.runtime.find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(MeasureError, match=r"needs onnxruntime, which.*pip install 'nas\[onnx\]'"):
        check_measuring(asked(formats="onnx"), "cpu", load_space("nasnet_cell").spec)


def test_the_choice_is_kept_with_the_run(tmp_path):
    chosen = settled(objectives="accuracy,latency", formats="onnx,py")
    assert Settled.from_mapping(chosen.to_mapping(), "here").config.runtime == "onnxruntime"
    words = measure_words(chosen, RunFolder(tmp_path))
    assert words is not None
    assert words["runtime"] == "onnxruntime"


def test_a_page_with_a_limit_that_is_none_is_told_with_its_place():
    spec = parse_page(read_page(MANY + "constraints: [latncy<=3ms]\n", "page.yaml"))
    with pytest.raises(UsageError, match=r"^page.yaml:\d+: constraints: .*latncy.*latency"):
        check_measuring(asked(), "cpu", spec)
    with pytest.raises(UsageError) as caught:
        check_measuring(asked(constraint="latncy<=3ms"), "cpu", load_space("nasnet_cell").spec)
    assert caught.value.where is None


@pytest.mark.parametrize(("objectives", "measured"), [
    ("accuracy,num_params", None), ("accuracy,memory", ["memory"]), ("accuracy,weight_bytes", ["weight_bytes"]),
    ("accuracy,throughput", ["latency", "throughput"]),
])  # fmt: skip
def test_what_is_measured(tmp_path, objectives, measured):
    words = measure_words(settled(objectives=objectives), RunFolder(tmp_path))
    assert (words and words["metrics"]) == measured


def made_up(module, shape):
    """An operation takes 0.1 ms and a tenth for every 100 parameters, in a unit of 2 ms."""
    ms = 0.1 + sum(p.numel() for p in module.parameters()) / 1000
    return SimpleNamespace(median_ms=ms, low_ms=ms, high_ms=ms, reference_depth=1, reference_ms=2.0)


def a_table(path, *, whole=0, input=(1, 8, 8), **conditions):
    """Of the space MANY on this machine."""
    space, size, rng = space_of(MANY), Size(input=input, num_classes=10), random.Random(0)
    table = LatencyTable(path, {**conditions_at("cpu", batch=1, threads=1), **conditions})
    for _ in range(1000):
        for work in table.missing(lower(space.sample(rng), size)):
            table.add(work, made_up, 1)
    while len(table.whole) < whole:
        table.add_whole(space.sample(rng), size, made_up)
    return table


def asked_with(path, **words):
    return settled(**{"objectives": "accuracy,latency", "latency_table": str(path), **words})


def test_a_latency_table_is_read_and_told(tmp_path):
    made = a_table(tmp_path / "t.json", whole=20, cores=[0])
    said: list[str] = []
    table = latency_table(asked_with(tmp_path / "t.json"), said.append)
    assert table is not None
    assert table.entries == made.entries
    assert re.search(r"t.json: has all of 20 of 20 sampled networks; its sums, corrected, are \d+\.\d% off \(n=20\)$", said[0])
    assert latency_table(settled(objectives="accuracy,latency"), said.append) is None


@pytest.mark.parametrize("conditions", [
    {"device": "another"}, {"torch": "1.0"}, {"batch": 4}, {"threads": 2}, {"dtype": "float16"}, {"runtime": "compile"},
    {"memory_format": "contiguous"},
])  # fmt: skip
def test_a_table_of_other_conditions_is_refused_with_how_to_make_one(tmp_path, conditions):
    a_table(tmp_path / "t.json", **conditions)
    (name, value), = conditions.items()
    make = "Make one: nas latency-table many target=cpu batch=1 runtime=eager input=1x8x8 num_classes=10 width=1 depth=1 out="
    with pytest.raises(MeasureError, match=rf"under another {name}; expected {value}; got .*{make}"):
        latency_table(asked_with(tmp_path / "t.json"), print)


@pytest.mark.parametrize(("target", "there"), [("http://board:8000", "cpu"), ("ssh://me@box?device=cuda:1", "cuda:1")])
def test_a_table_for_another_machine_is_to_be_made_there(tmp_path, monkeypatch, target, there):
    a_table(tmp_path / "t.json")
    monkeypatch.setattr(measuring, "conditions_at", lambda target, **words: conditions_at("cpu", **words) | {"device": "board"})
    hint = f"on that machine, and bring its file here: nas latency-table many target={there} batch=1 "
    with pytest.raises(MeasureError, match=f"under another device; .*got 'board'.*{hint}"):
        latency_table(asked_with(tmp_path / "t.json", target=target), print)


@pytest.mark.parametrize(("words", "match"), [
    ({}, "lacks something of each of 20 sampled networks; expected the operations of many at the deployed size.*input=1x8x8"),
    ({"objectives": "accuracy,macs"}, "for searches that judge by latency"),
    ({"target": "cuda@H200", "engine": "ray"}, "a cluster's nodes"),
    ({"latency_table": "none.json"}, "no such latency table"),
])  # fmt: skip
def test_a_table_that_is_of_no_use_is_refused(tmp_path, words, match):
    a_table(tmp_path / "t.json", input=(1, 9, 9))
    with pytest.raises(NasError, match=match):
        latency_table(asked_with(tmp_path / "t.json", **words), print)


def test_a_search_with_a_table_spares_measurements_from_the_first_on(tmp_path):
    """Its unit is half the table's, and so are its latencies."""
    table, space = a_table(tmp_path / "t.json", whole=20), space_of(MANY)
    chosen = asked_with(tmp_path / "t.json", constraint=["latency<=0.4ms"], strategy="random")

    def outcome(job):
        if job.payload["stage"]["do"] == "train":
            return accuracy_of(job)
        page = Architecture(parse_page(job.payload["page"]))
        ms = made_up(build(lower(page, chosen.plan.deploy)), None).median_ms / 2
        return {"metrics": {"latency": ms}, "latency_low_ms": ms, "latency_high_ms": ms, "measure_s": 0.1}

    loop = run_loop(tmp_path, FakeExecutor(outcome), chosen, rules={"sums": Sums(table, {1: 1.0})})
    spared = [r for r in loop.study.records if "foreseen" in (r.reason or "")]
    assert any(record.number < 10 for record in spared)
    assert "from a latency table and its 20 whole networks" in spared[0].reason
    for record in spared:
        assert made_up(build(lower(space.architecture(record.decisions), chosen.plan.deploy)), None).median_ms / 2 > 0.4


def test_what_is_known_without_measuring():
    chosen = settled(objectives="accuracy,num_params,latency")
    known = known_metrics(chosen.objectives, chosen.constraints, chosen.plan.deploy)
    assert known is not None
    assert known(chosen.space.sample(random.Random(0))).keys() == {"num_params"}


@pytest.mark.parametrize(("target", "device", "apart"), [
    ("cpu", "cpu", False), ("cuda", "cuda", False), ("cpu", "cuda", False), ("cuda", "cpu", True),
    ("http://board:8000", "cpu", True), ("cuda@H200", "cuda", True),
])  # fmt: skip
def test_where_it_is_measured(target, device, apart):
    assert measured_apart(target, device) == apart
