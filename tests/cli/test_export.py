"""``nas export``: pages, their default folder, and what the written file says of its origin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas.cli import main
from nas.export.origin import trial_head
from nas.net.lower import lower
from nas.net.render import render
from nas.space.parse import parse_text
from nas.space.search_space import Architecture

PAGE = '{name: "%s", source: "%s", input: [3, 8, 8], network: [{op: conv_bn, out_channels: 4}, global_avg_pool, classifier]}'


def write_page(folder: Path, name: str = "mine", source: str = "a paper") -> str:
    path = folder / "page.yaml"
    path.write_text(PAGE % (name, source))
    return str(path)


def test_a_page_is_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", write_page(tmp_path), f"out={tmp_path / 'out'}", "--json"]) == 0
    (network,) = json.loads(capsys.readouterr().out)["networks"]
    assert network["weights"] == "none"
    assert {Path(file).name for file in network["files"]} >= {"network.py", "architecture.yaml", "test_network.py"}
    assert '"""mine: ' in (tmp_path / "out" / "network.py").read_text()


def test_text_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", write_page(tmp_path), f"out={tmp_path / 'out'}"]) == 0
    said = capsys.readouterr().out
    assert "without weights" in said
    assert "from network import build" in said


def test_names_of_pages_do_not_choose_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    page = write_page(tmp_path, "../../../evil", "'''; raise SystemExit")
    if main(["export", page]) == 0:
        assert [p.name for p in (inside / "export").iterdir()] == ["_evil"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "page.yaml"]


def test_a_mistake_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", write_page(tmp_path), "formats=onxx"]) == 2
    assert "unknown format" in capsys.readouterr().err


def test_the_head_of_a_trial_says_its_conditions() -> None:
    spec = parse_text(PAGE % ("mine", "a paper"))
    latency = {"confidence": 0.95, "low_ms": 0.9, "high_ms": 1.1, "n": 30, "device_name": "A CPU", "batch": 1, "dtype": "float32",
               "threads": 1, "memory_format": "channels_last", "runtime": "eager", "torch_version": "2.6"}  # fmt: skip
    head = trial_head(
        spec, lower(Architecture(spec)), config={"space": "my space.yaml", "data": "digits", "budget": "3min", "seed": 0},
        run="results/r", trial=7, seed=11, metrics={"accuracy": 0.93, "latency": 1.0}, latency=latency, epochs=3, trained=True,
    )  # fmt: skip
    text = " ".join(render(lower(Architecture(spec)), head).partition("from __future__")[0].split())
    again = "nas search space='my space.yaml' data=digits"
    for part in ("A CPU", "n = 30", "proxy-trained", "93.00 %", again, "trial=7", "Apache-2.0"):
        assert part in text
