"""``nas latency-table`` from its command line; timing itself is made up, see tests/measure for real ones."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from nas.cli import latency_table as verb
from nas.cli import main
from nas.errors import MeasureError
from tests.cli.contract import contract

PAGE = """
name: tiny
input: [3, 8, 8]
num_classes: 4
network:
  - {op: conv_bn_act, out_channels: {choice: [8, 16, 24]}}
  - {op: conv_bn_act, out_channels: {choice: [8, 16]}}
  - global_avg_pool
  - classifier
"""


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Shapes measured so far; a millisecond a module that has parameters, and a tenth of one otherwise."""
    shapes = []

    def measure(module, shape, **options):
        shapes.append(shape)
        ms = 0.1 + sum(p.numel() for p in module.parameters()) / 1000
        return SimpleNamespace(median_ms=ms, low_ms=ms, high_ms=ms, reference_depth=1, reference_ms=1.0)

    monkeypatch.setattr(verb, "measure_latency", measure)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(PAGE)
    return shapes


def nas(*words):
    return main(["latency-table", *words])


def test_a_space_is_measured_once_and_judged(measured, capsys):
    assert nas("tiny.yaml", "networks=8", "check=3", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == contract("JSON of latency-table")
    assert document["entries"] == document["measured"] == len(measured) - 3
    assert document["additivity"]["n"] == 3
    assert document["additivity"]["ratio"] < 1, "whole networks have the fixed part of an operation once"
    count = len(measured)
    assert nas("tiny.yaml", "networks=8", "check=3") == 0
    assert len(measured) == count, "the whole networks are kept too"
    text = capsys.readouterr().out
    assert "0 of them measured now" in text
    assert "additivity over 3 whole networks" in text
    assert "rank correlation 1.00" in text
    assert nas("tiny.yaml", "networks=8", "check=5", "--json") == 0
    assert len(measured) == count + 2
    assert json.loads(capsys.readouterr().out)["additivity"]["n"] == 5
    assert nas("tiny.yaml", "networks=8", "check=20", "--json") == 0
    assert len(measured) == count + 2, "none is measured twice"
    assert json.loads(capsys.readouterr().out)["additivity"]["n"] == 5, "all that the table covers"


def test_networks_are_sampled_until_they_bring_nothing_new(measured, capsys, monkeypatch):
    Path("tiny.yaml").write_text(PAGE.replace("[8, 16, 24]", str([*range(8, 88, 8)])))

    def entries(out):
        assert nas("tiny.yaml", "networks=20", "check=0", f"out={out}", "--json") == 0
        document = json.loads(capsys.readouterr().out)
        return document["entries"], document["coverage"]

    known, coverage = entries("whole.json")
    assert coverage > 0.95
    monkeypatch.setattr(verb, "MOST", 1)
    bounded, less = entries("part.json")
    assert bounded < known <= 10 + 20 + 2 + 2
    assert less < coverage
    assert nas("tiny.yaml", "networks=1", "check=0", "out=one.json") == 0
    assert re.search(r"coverage: \d+\.\d% of what other", capsys.readouterr().out)


def test_impossible_samples_are_passed_over(measured, capsys):
    wrong = "{op: conv_bn_act, out_channels: 8, kernel_size: {choice: [3, 99]}, padding: 0}"
    Path("half.yaml").write_text(PAGE.replace("  - global", f"  - {wrong}\n  - global"))
    assert nas("half.yaml", "check=1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["coverage"] == 1.0
    Path("never.yaml").write_text(PAGE.replace("  - global", f"  - {wrong.replace('[3, 99]', '[97, 99]')}\n  - global"))
    assert nas("never.yaml", "check=1") == 2
    assert "99" in capsys.readouterr().err


def test_refusals_are_counted_and_made_up_for_later(measured, capsys, monkeypatch):
    usual, calls = verb.measure_latency, []

    def often_busy(module, shape, **options):
        calls.append(shape)
        if len(calls) % 3 == 2:
            raise MeasureError("busy")
        return usual(module, shape, **options)

    monkeypatch.setattr(verb, "measure_latency", often_busy)
    assert nas("tiny.yaml", "check=0") == 0
    assert "measurements were refused, the same command tries them again: busy" in capsys.readouterr().out
    monkeypatch.setattr(verb, "measure_latency", usual)
    assert nas("tiny.yaml", "check=1", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["refused"] == 0
    assert 0 < document["measured"] < document["entries"]


def test_a_whole_network_that_is_refused_is_told(measured, capsys, monkeypatch):
    usual = verb.measure_latency

    def measure(module, shape, *, limits, **options):
        if limits is not verb.LIMITS:
            raise MeasureError("too large to measure")
        return usual(module, shape)

    monkeypatch.setattr(verb, "measure_latency", measure)
    assert nas("tiny.yaml", "check=2") == 0
    text = capsys.readouterr().out
    assert "2 measurements were refused, the same command tries them again: too large to measure" in text
    assert "additivity: no network" in text


def test_whole_networks_that_were_missed_are_made_up_for_later(measured, capsys, monkeypatch):
    usual, whole = verb.measure_latency, []

    def interrupted(module, shape, *, limits, **options):
        if limits is not verb.LIMITS:
            whole.append(shape)
            if len(whole) == 2:
                raise KeyboardInterrupt
        return usual(module, shape)

    monkeypatch.setattr(verb, "measure_latency", interrupted)
    assert nas("tiny.yaml", "networks=8", "check=4") == 130
    for _ in range(2):
        assert nas("tiny.yaml", "networks=8", "check=4", "--json") == 0
        capsys.readouterr()
    assert len(whole) == 2 + 3
    assert nas("tiny.yaml", "networks=8", "check=4", "--json") == 0
    assert json.loads(capsys.readouterr().out)["additivity"]["n"] == 4


@pytest.mark.parametrize(("words", "message"), [
    (("nasnet_a_cifar",), "nothing to search"), (("tiny.yaml", "networks=0"), "networks is a whole number"),
    (("tiny.yaml", "target=tpu"), "no such device"), (("tiny.yaml", "target=ssh://box"), "Run the command there"),
    (("tiny.yaml", "runtime=onx"), "unknown runtime"),
])  # fmt: skip
def test_mistakes_are_told(measured, words, message, capsys):
    assert nas(*words) == 2
    assert message in capsys.readouterr().err


def test_a_machine_that_refuses_everything_is_an_error(measured, capsys, monkeypatch):
    def busy(module, shape, **options):
        raise MeasureError("busy")

    monkeypatch.setattr(verb, "measure_latency", busy)
    assert nas("tiny.yaml") == 2
    assert capsys.readouterr().err.strip().endswith("nas: busy")
