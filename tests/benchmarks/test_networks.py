"""The committed table of networks says what lowering says."""

import csv
import json
from pathlib import Path

from benchmarks.networks import HEADS, compare

ROOT = Path(__file__).parent.parent.parent


def test_the_table_is_true():
    figures = json.loads((ROOT / "tests" / "data" / "reference_models.json").read_text(encoding="utf-8"))
    with (ROOT / "results" / "benchmarks" / "networks.csv").open(encoding="utf-8", newline="") as file:
        heads, *rows = csv.reader(file)
    assert tuple(heads) == HEADS
    assert [tuple(row) for row in rows] == compare(figures)


def test_differences_are_told():
    rows = {row[3]: row for row in compare({"models": {
        "ResNet-18": {"params": 11_689_500, "macs": None}, "NASNet-A mobile (4 @ 1056)": {"params": 5_289_978, "macs": 1},
        "GoogLeNet (torchvision, no aux)": {"params": 6_624_904, "macs": None}, "unknown": {"params": 1, "macs": 1},
        "printed alone": {"params": None, "macs": None},
    }})}  # fmt: skip
    assert rows["GoogLeNet (torchvision, no aux)"][-1] == "yes"
    assert rows["NASNet-A mobile (4 @ 1056)"][-1].endswith(" MACs")
    assert rows["ResNet-18"][-1] == "+12 params"
    assert (rows["unknown"][-1], rows["printed alone"][-1]) == ("no page", "no figures")
