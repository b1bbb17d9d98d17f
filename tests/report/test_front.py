"""The front as a picture."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

import pytest

from nas.errors import UsageError
from nas.report.front import axis_title, front_figure
from nas.report.run.document import run_document
from nas.search.archive import open_archive
from nas.search.metrics import METRICS


@pytest.fixture(scope="module")
def document(scripted):
    with open_archive(scripted) as archive:
        return run_document(archive)


@pytest.mark.parametrize(("ending", "begin"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_the_ending_says_the_format(document, tmp_path, ending, begin) -> None:
    file = tmp_path / "pictures" / f"front.{ending}"
    front_figure(document, file)
    assert file.read_bytes().startswith(begin)


def test_the_same_run_gives_the_same_picture(document, tmp_path) -> None:
    for name in ("a.svg", "b.svg"):
        front_figure(document, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    words = "".join(ElementTree.parse(tmp_path / "a.svg").getroot().itertext())
    tie = "as good as one of the front within the errors"
    for word in ("search", "random search", "front", tie, "latency (ms)", "validation accuracy (%)"):
        assert word in words


def test_every_metric_and_product_has_a_title() -> None:
    assert all(metric.label for metric in METRICS.values())
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)
    assert [axis_title(n) for n in ("latency_p95", "energy")] == ["95th percentile of latency (ms)", "energy of an image (mJ)"]
    assert axis_title("accuracy*(latency/3ms)^-0.07") == "accuracy*(latency/3ms)^-0.07"


def test_what_cannot_be_drawn_is_told(document, tmp_path, monkeypatch) -> None:
    with pytest.raises(UsageError, match="ends in"):
        front_figure(document, tmp_path / "front.gif")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        front_figure(document, tmp_path / "file" / "front.svg")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install \"nas\[figures\]\""):
        front_figure(document, tmp_path / "front.svg")
