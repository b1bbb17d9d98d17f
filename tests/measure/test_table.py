import json
import math
import random
from types import SimpleNamespace

import pytest
import torch

from nas.errors import MeasureError
from nas.measure.table import Alone, Figure, LatencyTable, Sums, additivity, work_of
from nas.net.build import build
from nas.net.graph import Size
from nas.net.identity import identity
from nas.net.lower import lower
from nas.space.library import load_space

CONDITIONS = {"device": "a test", "batch": 2, "cores": (0, 1)}
SIZE = Size(width=0.1, depth=0.1, input=(3, 16, 16), num_classes=10)


@pytest.fixture(scope="module")
def graphs():
    space = load_space("nasnet_cell")
    return [lower(space.sample(random.Random(seed)), SIZE) for seed in range(3)]


def made_up(module, shape):
    """A device on which time goes with the parameters and the input."""
    ms = 0.01 + 1e-4 * sum(p.numel() for p in module.parameters()) + 1e-5 * math.prod(shape)
    return SimpleNamespace(median_ms=ms, low_ms=0.9 * ms, high_ms=1.1 * ms, reference_depth=1, reference_ms=2.0)


def filled(path, graphs):
    table = LatencyTable(path, CONDITIONS)
    for graph in graphs:
        for work in table.missing(graph):
            table.add(work, made_up, batch=2)
    return table


def test_work_is_all_that_a_network_does(graphs):
    for graph in graphs:
        work = list(work_of(graph))
        assert [w.call for w in work] == [call for _, call in graph.calls()]
        assert work[0].shapes == ((3, 16, 16),)


def test_every_operation_runs_alone_and_gives_its_shape(graphs):
    for work in {w.key: w for graph in graphs for w in work_of(graph)}.values():
        out = Alone(work, batch=2).eval()(torch.randn(2, *work.shapes[0]))
        assert tuple(out.shape) == (2, *work.call.shape)


def test_a_sum_counts_repeated_work_as_often_as_it_is_done(tmp_path, graphs):
    table = filled(tmp_path / "t.json", graphs)
    for graph in graphs:
        parts = [made_up(Alone(work, 2), work.shapes[0]).median_ms for work in work_of(graph)]
        assert Sums(table).of(graph) == pytest.approx(sum(parts))
    assert len(table.entries) < sum(len(list(work_of(graph))) for graph in graphs)


def test_a_table_goes_on_where_it_was(tmp_path, graphs):
    path, calls = tmp_path / "new" / "t.json", []
    first = filled(path, graphs[:1])
    again = LatencyTable(path, CONDITIONS)
    assert (again.entries, again.missing(graphs[0])) == (first.entries, [])
    for work in again.missing(graphs[1]):
        again.add(work, lambda module, shape: calls.append(shape) or made_up(module, shape), batch=2)
    assert 0 < len(calls) == len(again.entries) - len(first.entries)
    assert not list(path.parent.glob("*.part"))


def test_a_refused_measurement_leaves_no_trace(tmp_path, graphs):
    table = LatencyTable(tmp_path / "t.json", CONDITIONS)

    def busy(module, shape):
        raise MeasureError("busy")

    with pytest.raises(MeasureError, match="busy"):
        table.add(table.missing(graphs[0])[0], busy, batch=2)
    assert not table.entries
    assert Sums(table).of(graphs[0]) is None


def test_other_conditions_are_refused(tmp_path, graphs):
    filled(tmp_path / "t.json", graphs[:1])
    with pytest.raises(MeasureError, match=r"another batch; expected 2; got 4. Choose another file"):
        LatencyTable(tmp_path / "t.json", CONDITIONS | {"batch": 4})
    with pytest.raises(MeasureError, match="another runtime"):
        LatencyTable(tmp_path / "t.json", CONDITIONS | {"runtime": "eager"})


FIGURE = {"median_ms": 1.0, "low_ms": 1.0, "high_ms": 1.0, "reference_depth": 1, "reference_ms": 1.0}


@pytest.mark.parametrize("text", [
    "", "[]", "{}", *(json.dumps({"conditions": {}, "entries": {}, "whole": {}} | words) for words in (
        {"conditions": 1}, {"whole": []}, {"entries": {"a": {}}}, {"entries": {"a": FIGURE | {"median_ms": -1}}},
        {"entries": {"a": FIGURE | {"more": 1}}}, {"whole": {"a": {"page": {}, "size": {}, "figure": FIGURE}}})),
])  # fmt: skip
def test_a_damaged_file_is_told(tmp_path, text):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(MeasureError, match="not a latency table"):
        LatencyTable(tmp_path / "t.json", {})


def test_whole_networks_are_kept_and_judge_the_sums(tmp_path, graphs):
    """Each of them by its page and size, so that it is the same network when the file is read."""
    space, path = load_space("nasnet_cell"), tmp_path / "t.json"
    table = filled(path, graphs)
    for seed in range(3):
        table.add_whole(space.sample(random.Random(seed)), SIZE, made_up)
    read = LatencyTable(path, CONDITIONS)
    assert (read.entries, read.whole) == (table.entries, table.whole)
    sums = Sums(read)
    assert sorted(identity(graph) for graph, _ in sums.whole) == sorted(map(identity, graphs)) == sorted(read.whole)
    expected = additivity([sums.of(graph) for graph, _ in sums.whole], [ms for _, ms in sums.whole])
    assert sums.additivity() == expected
    assert expected.n == 3
    assert Sums(filled(tmp_path / "none.json", graphs)).additivity() is None


def test_a_table_is_told_in_the_unit_that_is_asked_for(tmp_path, graphs):
    table = filled(tmp_path / "t.json", graphs[:1])
    assert table.units == {1: 2.0}
    usual, half = Sums(table).of(graphs[0]), Sums(table, {1: 1.0}).of(graphs[0])
    assert half == pytest.approx(usual / 2)
    assert Sums(table, {4: 1.0}).of(graphs[0]) is None, "nothing is known of the other reference"
    figure = Figure(median_ms=6.0, low_ms=5.0, high_ms=7.0, reference_depth=4, reference_ms=3.0)
    assert figure.within({1: 1.0, 4: 4.0}) == pytest.approx(8.0)


def test_a_reader_takes_a_table_that_is_there_pinned_anywhere(tmp_path, graphs):
    filled(tmp_path / "t.json", graphs[:1])
    conditions = {key: value for key, value in CONDITIONS.items() if key != "cores"}
    assert LatencyTable.open(tmp_path / "t.json", conditions, hint="").entries
    with pytest.raises(MeasureError, match=r"another device; expected a test; got 'the next'. So make one"):
        LatencyTable.open(tmp_path / "t.json", conditions | {"device": "the next"}, hint="So make one")
    with pytest.raises(MeasureError, match="no such latency table"):
        LatencyTable.open(tmp_path / "none.json", conditions, hint="")


def test_additivity_of_sums():
    judged = additivity([1, 2, 4], [1.1, 2.2, 4.4])
    assert (judged.n, judged.ratio, judged.spearman) == (3, pytest.approx(1.1), pytest.approx(1))
    assert (judged.error, judged.scaled_error) == (pytest.approx(1 - 1 / 1.1), pytest.approx(0, abs=1e-9))
    assert additivity([1, 2, 3], [3, 2, 1]).spearman == pytest.approx(-1)
    assert additivity([1, 2], [1, 2]).spearman is None


def test_a_network_is_its_operations(graphs):
    """What is added up is what runs: as many modules as operations, with the network's parameters."""
    for graph in graphs:
        alone = sum(sum(p.numel() for p in Alone(work, 1).parameters()) for work in work_of(graph))
        assert alone == sum(p.numel() for p in build(graph).parameters())
