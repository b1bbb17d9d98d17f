"""``nas scale`` from its command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas.cli import main
from nas.measure import latency as room
from nas.search import scale_grid as module
from tests.cli.test_measure import LENIENT
from tests.cli.test_search import contract
from tests.search.test_scale import PAGE


@pytest.fixture
def place(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(room, "_calibrate", lambda timer, reference, between: 1e-3)
    monkeypatch.setattr(room, "Limits", lambda: LENIENT)
    monkeypatch.setenv("TMPDIR", str(here))
    monkeypatch.setattr("tempfile.tempdir", None)
    (here / "net.yaml").write_text(PAGE)
    (here / "short.yaml").write_text("{epochs: 1, batch_size: 30}")
    return here


def test_a_family_of_given_coefficients(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["scale", "net.yaml", "coefficients=1.3,1.2,1.1", "members=2", "deploy=input=3x12x12"]
    assert main(line) == 0
    said = capsys.readouterr().out
    assert "net_b1" in said
    assert "3x12x12" in said
    assert (place / "results" / "scaled" / "net" / "net_b1.yaml").is_file()
    assert main([*line, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document.keys() == contract("JSON of scale")
    assert document["out"] == "results/scaled/net"
    assert not document["interrupted"]
    assert [m["phi"] for m in document["family"]] == [0, 1]


def test_coefficients_are_found_and_a_member_is_trained(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["scale", "net.yaml", "data=tiny.npz", "recipe=short.yaml", "members=2", "deploy=input=1x12x12", "out=s"]
    assert main(line) == 0
    said = capsys.readouterr().out
    assert "candidates of about 2 times the macs, 1 epochs each" in said
    assert "the best of" in said
    document = json.loads((place / "s" / "family.json").read_text())
    member = document["family"][1]
    side = member["input"][1]
    assert main(["train", member["page"], "data=tiny.npz", "recipe=short.yaml", f"deploy=input=1x{side}x{side}", "out=t",
                 "--json"]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["num_params"] == member["num_params"]


def test_an_interrupt_is_told(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def press(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Grid, "_train", press)
    assert main(["scale", "net.yaml", "data=tiny.npz", "recipe=short.yaml", "out=s"]) == 130
    assert "the same command goes on: s" in capsys.readouterr().out


S = ["scale", "net.yaml"]


@pytest.mark.parametrize(("argv", "says"), [
    (["scale"], "needs WHAT"), (S, "nothing to find coefficients on"), ([*S, "coefficients=1,2"], "three numbers"),
    ([*S, "coefficients=1.2,1.1,1.1", "members=0"], "members"), ([*S, "coefficients=1.2,1.1,1.1", "members=99"], "at most"),
    ([*S, "data=tiny.npz", "rule=mac"], "Did you mean 'macs'"), ([*S, "data=tiny.npz", "budget=3trials"], "wall time"),
    ([*S, "data=tiny.npz", "recipe=quik"], "Did you mean 'quick'"), ([*S, "data=tiny.npz", "deploy=num_classes=9"], "9 classes"),
    ([*S, "data=tiny.npz", "target=http://127.0.0.1:9"], "on the machine that trains it"),
    ([*S, "data=tiny.npz", "runtime=onxruntime"], "Did you mean 'onnxruntime'"),
    ([*S, "data=tiny.npz", "device=tpu"], "device=tpu"), ([*S, "dtype=int4", "coefficients=1,1,1"], "unknown dtype"),
])  # fmt: skip
def test_a_wrong_line_is_told(place: Path, argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(place.rglob("*"))
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("nas: ")
    assert err.count("\n") == 1
    assert says in err
    assert sorted(place.rglob("*")) == before
