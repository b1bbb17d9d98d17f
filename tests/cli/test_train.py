"""``nas train``: pages and trials trained to the end, killed and gone on with, in one process and in two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from nas import Size, load_architecture
from nas.cli import main
from nas.cli.train import Subject, data_at
from nas.train import load_data
from tests.cli.driver import begin, environment, wait_until
from tests.cli.test_search import contract
from tests.search.runs import write_data

PAGE = "{name: net, network: [{op: conv_bn_act, kernel_size: 3, out_channels: 8}, global_avg_pool, classifier]}"
RECIPE = "{epochs: 2, batch_size: 20, ema: 0.9, mixup: 0.2, drop_path: 0.1, aux_weight: 0.4}"


@pytest.fixture
def place(here: Path) -> Path:
    (here / "net.yaml").write_text(PAGE)
    (here / "short.yaml").write_text(RECIPE)
    return here


def test_a_page_is_trained_and_exported(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["train", "net.yaml", "data=tiny.npz", "recipe=short.yaml", "out=t"]
    assert main([*line, "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert "epoch 2 of 2" in err
    assert document.keys() == contract("JSON of train")
    assert document["weights"] == "fully trained"
    assert document["epochs"] == 2
    assert not document["interrupted"]
    source = (place / "t" / "export" / "network.py").read_text()
    for part in ("Weights: fully trained: recipe short, 2 epochs on tiny", "on the test split", "nas train net.yaml"):
        assert part in " ".join(source.split())
    stored = json.loads((place / "t" / "metrics.json").read_text())
    assert document["test_accuracy"] == stored["test_accuracy"]
    proof = subprocess.run([sys.executable, "t/export/test_network.py"], cwd=place, check=False, capture_output=True)
    assert proof.returncode == 0
    assert main(line) == 0
    said = capsys.readouterr().out
    assert "epoch 1 of 2: loss" not in said, "a finished training is not repeated"
    assert "fully trained" in said


def test_a_training_gives_way_between_its_steps(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    @contextmanager
    def giving_way(device: str) -> Iterator[Callable[[], None]]:
        yield lambda: steps.append(device)
        steps.append("over")

    monkeypatch.setattr("nas.measure.device.giving_way", giving_way)
    assert main(["train", "net.yaml", "data=tiny.npz", "recipe=short.yaml", "out=t", "device=cpu"]) == 0
    assert steps == ["cpu"] * (len(steps) - 1) + ["over"]
    assert len(steps) > 2


def test_a_trial_is_trained_at_the_size_it_is_deployed_at(
    finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    (tmp_path / "short.yaml").write_text(RECIPE)
    words = ["epochs=1", f"recipe={tmp_path / 'short.yaml'}", f"out={tmp_path / 't'}", "--json"]
    assert main(["train", "done", *words]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["weights"] == "trained for 1 of the recipe's 2 epochs"
    assert main(["best", "done", "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["best"]
    assert document["name"] == f"done-{best['trial']}"
    assert document["num_params"] == best["num_params"]
    assert "Found in the space" in (tmp_path / "t" / "export" / "network.py").read_text()


def test_other_data_and_another_size(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["train", "net.yaml", "data=tiny.npz", "recipe=short.yaml", "epochs=1", "deploy=width=2,input=1x12x12", "--json"]
    assert main(line) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["out"] == "results/trained/net-tiny-short"
    page = (place / document["out"] / "architecture.yaml").read_text()
    assert "input: [1, 12, 12]" in page


def test_a_runs_network_is_judged_on_the_images_that_the_run_held_out(place: Path) -> None:
    architecture = load_architecture("net.yaml")
    words = {"name": "net", "architecture": architecture, "size": Size(), "data": "tiny.npz"}
    of_run, of_page = Subject(**words, split=5), Subject(**words)
    assert data_at(of_run, None, 1).fingerprint == load_data("tiny.npz", seed=5).fingerprint
    assert data_at(of_page, None, 1).fingerprint == load_data("tiny.npz", seed=1).fingerprint
    assert data_at(of_page, None, 1).fingerprint != data_at(of_run, None, 1).fingerprint


def test_images_that_are_not_square_are_trained_as_they_are(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_data(place / "wide.npz", shape=(8, 10))
    main(["search", "space=many.yaml", "data=wide.npz", "budget=1trials", "epochs=1", "baseline=0", "repeats=0", "run=wide",
          "objectives=accuracy,num_params"])  # fmt: skip
    for words, out in (["wide"], "t"), (["net.yaml", "data=wide.npz", "deploy=input=1x8x10"], "u"):
        assert main(["train", *words, "recipe=short.yaml", "epochs=1", f"out={out}"]) == 0
        assert "input: [1, 8, 10]" in (place / out / "architecture.yaml").read_text()
    capsys.readouterr()
    assert main(["train", "wide", "recipe=short.yaml", "deploy=input=1x8x9"]) == 2
    assert "scaled to squares" in capsys.readouterr().err


def test_a_run_of_scaled_images_is_trained_on_scaled_images(place: Path) -> None:
    main(["search", "space=many.yaml", "data=tiny.npz", "budget=1trials", "epochs=1", "baseline=0", "repeats=0", "run=scaled",
          "objectives=accuracy,num_params", "image_size=10"])  # fmt: skip
    assert main(["train", "scaled", "recipe=short.yaml", "epochs=1", "out=t"]) == 0
    assert "input: [1, 10, 10]" in (place / "t" / "architecture.yaml").read_text()


@pytest.mark.parametrize(("name", "package"), [("onnx", "onnxscript"), ("safetensors", "safetensors.torch")])
def test_a_format_whose_packages_are_missing_is_refused_before_the_training(
    place: Path, name: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for line in T, ["search", "space=many.yaml", "data=tiny.npz", "budget=1trials,2h", "final=1"]:
        assert main([*line, f"formats=py,{name}", "--json"]) == 2
        assert f"pip install 'nas[{name}]'" in capsys.readouterr().err
    assert not (place / "results").exists()


T = ["train", "net.yaml", "data=tiny.npz"]


@pytest.mark.parametrize(("argv", "says"), [
    (["train"], "needs WHAT"), (["train", "net.yaml"], "data is missing"),
    (["train", "darts_v2_cifa", "data=digits"], "darts_v2_cifar"),
    ([*T, "recipe=cifra"], "Did you mean 'cifar'"), ([*T, "recipe=none.yaml"], "no such recipe"), ([*T, "epochs=0"], "epochs"),
    ([*T, "batch_size=1"], "batch_size"), ([*T, "budget=3trials"], "wall time"), ([*T, "budget=x"], "not a budget"),
    ([*T, "device=tpu"], "device=tpu"), ([*T, "deploy=widht=1"], "Did you mean 'width'"), ([*T, "trial=3"], "no such run"),
    ([*T, "device=cuda:99"], "cuda:99"), ([*T, "deploy=input=1x8x9"], "square"), ([*T, "deploy=num_classes=7"], "3 classes"),
    ([*T, "deploy=input=3x8x8"], "3x8x8"), ([*T, "seed=-1"], "seed"), (["train", "many.yaml", "data=tiny.npz"], "search space"),
    ([*T, "formats=onxx"], "unknown format"), ([*T, "out=tiny.npz/x"], "cannot be written"),
])  # fmt: skip
def test_a_wrong_line_is_told(place: Path, argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(place.rglob("*"))
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("nas: ")
    assert err.count("\n") == 1
    assert says in err
    assert sorted(place.rglob("*")) == before


def test_an_interrupt_is_told_and_the_same_command_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nas.report.training import Lines

    def press(self: Lines, epoch: object, epochs: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Lines, "__call__", press)
        assert main([*T, "recipe=short.yaml", "out=t"]) == 130
    assert "the same command goes on" in capsys.readouterr().out
    assert main([*T, "recipe=short.yaml", "out=t"]) == 0


def states(folder: Path) -> list[dict[str, torch.Tensor]]:
    return [torch.load(folder / name, weights_only=True) for name in ("best.pt", "last.pt")]


def equal(a: Path, b: Path) -> bool:
    return all(torch.equal(x[key], y[key]) for x, y in zip(states(a), states(b), strict=True) for key in x)


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_weights(place: Path) -> None:
    line = ["train", "net.yaml", "data=tiny.npz", "recipe=short.yaml", "epochs=60", "seed=3"]
    assert main([*line, "out=whole"]) == 0
    checkpoint = place / "part" / "checkpoint.pt"

    def saved() -> int:
        return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0

    for _ in range(2):
        before = saved()
        driver = begin(*line, "out=part", cwd=place)
        wait_until(lambda before=before: saved() != before, driver)
        time.sleep(0.05)
        os.killpg(driver.pid, signal.SIGKILL)
        driver.communicate()
    assert not (place / "part" / "metrics.json").exists()
    assert main([*line, "out=part"]) == 0
    assert equal(place / "whole", place / "part")


@pytest.mark.slow
def test_two_processes_train_as_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without batch norm the averaged gradients are those of one process; with it, an auxiliary head and a plan, it runs."""
    (place / "plain.yaml").write_text("{name: plain, network: [{op: conv, kernel_size: 3, out_channels: 8}, relu, "
                                      "global_avg_pool, classifier]}")
    (place / "plain_recipe.yaml").write_text("{epochs: 3, batch_size: 21, crop_padding: 0, ema: 0.9}")
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "nas", "train"]
    line = ["plain.yaml", "data=tiny.npz", "recipe=plain_recipe.yaml"]
    how = {"cwd": place, "env": environment(), "capture_output": True, "text": True, "timeout": 100}
    ran = subprocess.run([*run, *line, "out=two", "--json"], **how)
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert document["conditions"]["processes"] == 2
    assert main(["train", *line, "out=one"]) == 0
    for one, two in zip(states(place / "one"), states(place / "two"), strict=True):
        for key in one:
            torch.testing.assert_close(one[key], two[key], rtol=1e-4, atol=1e-6)
    one, two = (json.loads((place / folder / "metrics.json").read_text())["curve"] for folder in ("one", "two"))
    for figure in ("train_loss", "val_accuracy", "val_loss"):
        assert [epoch[figure] for epoch in one] == pytest.approx([epoch[figure] for epoch in two], rel=1e-5)
    line = ["net.yaml", "data=tiny.npz", "recipe=short.yaml", "budget=1h", "out=three"]
    ran = subprocess.run([*run, *line], **how)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("fully trained") == 1
