"""``nas export``: pages, their default folder, and what the written file says of its origin."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from nas.cli import main
from nas.export.batch import stored_batch
from nas.export.origin import accuracy_lines, found_lines, trial_head
from nas.net.lower import lower
from nas.net.render import render
from nas.search.front import Checks
from nas.search.study import Record
from nas.space.parse import parse_text
from nas.space.search_space import Architecture
from nas.train.data import load_data

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


LATENCY = {"confidence": 0.95, "low_ms": 0.9, "high_ms": 1.1, "n": 30, "device_name": "A CPU", "batch": 1, "dtype": "float32",
           "threads": 1, "memory_format": "channels_last", "runtime": "eager", "runtime_version": "2.6",
           "torch_version": "2.6"}  # fmt: skip


def test_the_head_of_a_trial_says_its_conditions_and_its_noise() -> None:
    spec = parse_text(PAGE % ("mine", "a paper"))
    record = Record(number=7, decisions={}, seed=11, metrics={"accuracy": 0.93, "latency": 1.0},
                    attrs={"latency": LATENCY, "epochs": 3})  # fmt: skip
    checks = Checks(again={7: {"median_ms": 1.02, "low_ms": 1.0, "high_ms": 1.04}})
    head = trial_head(
        spec, lower(Architecture(spec)), found=found_lines({"space": "mine", "data": "digits", "budget": "3min"}, record, checks),
        accuracy=accuracy_lines(record, images=100, test=0.9, test_images=400, repeats=[0.91, 0.95]), trained=True,
        command="nas search space=mine", made="nas export results/r trial=7",
    )  # fmt: skip
    text = " ".join(render(lower(Architecture(spec)), head).partition("from __future__")[0].split())
    for part in ("trial 7, seed 11", "A CPU", "n = 30", "Latency at the search's end, under the same conditions: 1.02 ms",
                 "93.00 % (standard error 2.55 %, n = 100) on the validation split and 90.00 % (standard error 1.50 %, n = 400)",
                 "Trained 3 times with other seeds: 93.00 % on validation, standard deviation 2.00 %", "(epochs: 3)",
                 "proxy-trained", "nas search space=mine", "trial=7", "Apache-2.0"):  # fmt: skip
        assert part in text
    assert accuracy_lines(Record(number=7, decisions={})) == []


def test_a_trial_is_exported_with_its_figures(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """The accuracy is counted on the run's validation images; this run measured no latency, so none is."""
    monkeypatch.chdir(finished)
    assert main(["export", "done", f"out={tmp_path / 'net'}", "--json"]) == 0
    (network,) = json.loads(capsys.readouterr().out)["networks"]
    stored = torch.load(tmp_path / "net" / "test_network.pt", weights_only=True)
    config = yaml.safe_load((finished / "results" / "done" / "config.yaml").read_text())
    assert torch.equal(stored["labels"], stored_batch(load_data(config["data"], seed=config["seed"])).labels)
    assert network["stored_images"] == {"right": int(stored["right"].sum()), "images": len(stored["labels"])}
    assert network["formats"] == {}
    figures = json.loads((tmp_path / "net" / "metrics.json").read_text())
    assert figures["test_accuracy"] == network["test_accuracy"] is not None
    head = " ".join((tmp_path / "net" / "network.py").read_text().partition("from __future__")[0].split())
    assert "on the test split" in head
    assert "objectives=accuracy,num_params" in head, "the command is whole"


def test_without_its_data_a_trial_is_exported_and_told(finished: Path, tmp_path: Path,
                                                       capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    shutil.copytree(finished / "results" / "done", tmp_path / "run")
    text = (tmp_path / "run" / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(text.replace("tiny.npz", "gone.npz"))
    assert main(["export", str(tmp_path / "run"), f"out={tmp_path / 'net'}"]) == 0
    said = capsys.readouterr().out
    assert "the test does not count accuracy" in said
    assert "gone.npz" in said
    assert "same_accuracy" not in (tmp_path / "net" / "test_network.py").read_text()


WRONG = [
    (["done", "trial=99"], "this run has no such trial; expected best, or a trial's number; got '99'"),
    (["done", "trial=x"], "this run has no such trial"), (["done", "trial=1", "out=file"], "file: this is a file, not a folder"),
    (["done", "trial=1", "out=file/x"], "file/x: the folder cannot be written"),
    (["done", "trial=1", "out=/proc/nope"], "/proc/nope: the folder cannot be written"),
    (["done", "formats=onxx"], "Did you mean 'onnx'"), (["bad.yaml"], "bad.yaml:3: network.conv_bm: unknown operation"),
    (["missing.yaml"], "no run, architecture or page of that name"), (["dona"], "got 'dona'"), (["folder"], "got 'folder'"),
    (["efficientnet_bo"], "Did you mean 'efficientnet_b"), (["nasnet_cell"], "that is a search space"),
    (["efficientnet_b0", "trial=3"], "no such run"), (["done", "trail=1"], "Did you mean 'trial'"),
]


@pytest.mark.parametrize(("words", "says"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_what_a_newcomer_gets_wrong_is_told(words: list[str], says: str, finished: Path, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").symlink_to(finished / "results")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "bad.yaml").write_text("name: bad\ninput: [3, 8, 8]\nnetwork: [{op: conv_bm, out_channels: 4}, classifier]\n")
    assert main(["export", *words]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "export").exists()
