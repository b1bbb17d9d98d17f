from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nas import Size, load_architecture, lower
from nas.errors import MeasureError, RunError, UsageError
from nas.measure import latency as room
from nas.search import scale as family
from nas.search import scale_grid as module
from nas.search.compound import Coefficients
from nas.search.scale import scale
from nas.search.scale_grid import Comparison
from nas.space.page import read_page
from nas.space.parse import parse_page
from nas.space.search_space import Architecture
from nas.train import Dataset, Recipe, load_data
from tests.cli.test_measure import LENIENT
from tests.search.runs import write_data

PAGE = """
name: net
source: a test
scaling: {divisor: 2}
network:
  - {name: stem, op: conv_bn_act, kernel_size: 3, out_channels: 16}
  - {name: body, repeat: 4, op: sep_conv, kernel_size: 3, out_channels: 16}
  - global_avg_pool
  - classifier
"""
NET = Architecture(parse_page(read_page(PAGE, "net")))
BASE = Size(input=(1, 12, 12), num_classes=3)
CPU = {"device": "cpu", "batch": 1, "threads": 1}


@pytest.fixture(autouse=True)
def lenient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real measurement, that minds no busy machine."""
    monkeypatch.setattr(room, "_calibrate", lambda timer, reference, between: 1e-3)
    monkeypatch.setattr(room, "Limits", lambda: LENIENT)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(module, "PAUSE_S", 0.0)


@pytest.fixture
def loads(tmp_path: Path) -> Any:
    source = write_data(tmp_path / "tiny.npz")

    def load(side: int | None) -> Dataset:
        return load_data(str(source), image_size=side or 12)

    return load


def compare(loads: Any, **words: Any) -> Comparison:
    return Comparison(load=loads, recipe=Recipe(epochs=2, batch_size=30), **words)


def run(folder: Path, said: list[str] | None = None, **words: Any) -> dict[str, Any]:
    return scale(NET, BASE, name="net", folder=folder, conditions=CPU, **{"members": 2, **words},
                 say=(said if said is not None else []).append)  # fmt: skip


def test_a_family_of_given_coefficients(tmp_path: Path) -> None:
    c = Coefficients(1.3, 1.2, 1.1)
    document = run(tmp_path / "f", coefficients=c, members=3)
    assert document == json.loads((tmp_path / "f" / "family.json").read_text())
    assert document["grid"] == []
    assert [m["name"] for m in document["family"]] == ["net_b0", "net_b1", "net_b2"]
    for phi, member in enumerate(document["family"]):
        graph, page = lower(NET, c.size(BASE, phi)), load_architecture(member["page"])
        written = lower(page)
        assert (written.num_params, written.macs, written.inputs) == (graph.num_params, graph.macs, graph.inputs)
        assert (member["num_params"], member["macs"]) == (graph.num_params, graph.macs)
        assert member["latency_ms"] > 0
        assert member["latency"]["n"] > 0
        assert f"phi {phi}" in page.spec.source
    macs = [m["macs"] for m in document["family"]]
    assert macs == sorted(macs)


def test_candidates_are_trained_at_equal_cost_and_the_best_makes_the_family(tmp_path: Path, loads: Any) -> None:
    said: list[str] = []
    document = run(tmp_path / "f", said, compare=compare(loads))
    rows = document["grid"]
    assert len(rows) > 1
    assert all(1.8 <= row["macs_ratio"] <= 2.2 and row["epochs"] == 2 for row in rows)
    best = max(row["val_accuracy"] for row in rows)
    chosen = document["coefficients"]
    assert next(r for r in rows if all(r[k] == chosen[k] for k in chosen))["val_accuracy"] == best
    assert f"{len(rows)} candidates of about 2 times the macs, 2 epochs each" in said[0]


def test_candidates_give_way_between_their_steps(tmp_path: Path, loads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    monkeypatch.setattr(module, "giving_way", lambda device: nullcontext(lambda: steps.append(device)))
    rows = run(tmp_path / "f", compare=compare(loads))["grid"]
    assert set(steps) == {"cpu"}
    assert len(steps) >= 2 * len(rows)


def test_a_killed_comparison_goes_on_and_ends_the_same(tmp_path: Path, loads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def dies(*arguments: Any) -> None:
        raise Killed

    whole = run(tmp_path / "whole", compare=compare(loads))
    train = module.Grid._train
    left = [2]

    def some(self: Any, *arguments: Any) -> dict[str, Any]:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return train(self, *arguments)

    monkeypatch.setattr(module.Grid, "_train", some)
    with pytest.raises(Killed):
        run(tmp_path / "part", compare=compare(loads))
    monkeypatch.setattr(module.Grid, "_train", train)
    with (tmp_path / "part" / "grid.jsonl").open("a") as file:
        file.write('{"alpha": 1.2, "be')
    part = run(tmp_path / "part", compare=compare(loads))
    plain = [[{k: v for k, v in row.items() if k != "seconds"} for row in d["grid"]] for d in (whole, part)]
    assert plain[0] == plain[1]
    assert part["coefficients"] == whole["coefficients"]
    monkeypatch.setattr(module.Grid, "_train", dies)
    assert run(tmp_path / "part", compare=compare(loads)) == part, "a finished one is read back"


def test_a_budget_sets_epochs_and_candidates(tmp_path: Path, loads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "epoch_seconds", lambda *arguments: 1.0)
    said: list[str] = []
    monkeypatch.setattr(module.Grid, "run", lambda self, plan: [{"alpha": 2.0, "beta": 1.0, "gamma": 1.0, "val_accuracy": 1.0,
                                                                  "macs": 1}])  # fmt: skip
    long = replace(compare(loads), recipe=Recipe(epochs=50, batch_size=30))
    run(tmp_path / "a", said, compare=replace(long, seconds=15.0))
    assert said[0].startswith("3 candidates")
    assert "2 epochs each" in said[0]
    run(tmp_path / "b", said := [], compare=replace(long, seconds=10_000.0))
    assert "50 epochs each" in said[0]
    with pytest.raises(UsageError, match="too small"):
        run(tmp_path / "c", compare=replace(long, seconds=6.0))


def test_the_latency_rule_measures(tmp_path: Path, loads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def by_macs(graph: Any, conditions: Any, folder: Path) -> Any:
        calls.append(graph.macs)
        return SimpleNamespace(median_ms=float(graph.macs) ** 0.5, to_mapping=dict)

    monkeypatch.setattr(module, "measured", by_macs)
    monkeypatch.setattr(family, "measured", by_macs)
    document = run(tmp_path / "f", compare=compare(loads, rule="latency"), members=1)
    assert document["rule"] == "latency"
    assert all(3.24 <= row["macs_ratio"] <= 4.84 for row in document["grid"])
    assert len(calls) <= module.MOST_MEASURED + 2


def test_a_refused_measurement_leaves_no_figure_and_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **words: Any) -> None:
        raise MeasureError("a busy machine")

    measure = module.measure_latency
    monkeypatch.setattr(module, "measure_latency", refuse)
    said: list[str] = []
    document = run(tmp_path / "f", said, coefficients=Coefficients(2.0, 1.0, 1.0), members=1)
    assert document["family"][0]["latency_ms"] is None
    assert "busy machine" in said[0]
    monkeypatch.setattr(module, "measure_latency", measure)
    again = run(tmp_path / "f", coefficients=Coefficients(2.0, 1.0, 1.0), members=1)
    assert again["family"][0]["latency_ms"] > 0
    assert run(tmp_path / "f", coefficients=Coefficients(2.0, 1.0, 1.0), members=1) == again
    (tmp_path / "f" / "family.json").write_text("{")
    with pytest.raises(RunError, match="family cannot be read"):
        run(tmp_path / "f", coefficients=Coefficients(2.0, 1.0, 1.0), members=1)


def test_another_scaling_is_refused(tmp_path: Path, loads: Any) -> None:
    run(tmp_path / "f", coefficients=Coefficients(2.0, 1.0, 1.0), members=1)
    with pytest.raises(RunError, match="another coefficients"):
        run(tmp_path / "f", coefficients=Coefficients(1.5, 1.0, 1.0), members=1)
    with pytest.raises(RunError, match="another members"):
        run(tmp_path / "f", coefficients=Coefficients(2.0, 1.0, 1.0), members=2)
    with pytest.raises(RunError, match="another coefficients"):
        run(tmp_path / "f", compare=compare(loads), members=1)


def test_a_network_too_small_to_double_steps_as_near_to_it_as_it_can(tmp_path: Path, loads: Any) -> None:
    """Its channels only double, which is four times the multiply-adds of a convolution, and 8 pixels become 12."""
    tiny = Architecture(parse_page(read_page(PAGE.replace("divisor: 2", "divisor: 16").replace("repeat: 4, ", ""), "tiny")))
    said: list[str] = []
    document = scale(tiny, Size(input=(1, 8, 8), num_classes=3), name="tiny", folder=tmp_path, conditions=CPU,
                     members=2, compare=compare(loads), say=said.append)  # fmt: skip
    assert "no coefficients double the multiply-adds of so small a network: a step is 2.2" in said[0]
    assert "candidates of about 2.2" in said[1]
    assert all(row["macs_ratio"] > 2.2 for row in document["grid"])


def test_a_network_that_cannot_be_scaled_is_told(tmp_path: Path, loads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "step_cost", lambda costs: None)
    with pytest.raises(UsageError, match=r"no coefficients about double.*start from a larger one"):
        run(tmp_path / "f", compare=compare(loads))
    with pytest.raises(UsageError, match="neither coefficients nor data"):
        run(tmp_path / "g")
