from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas import Size, build, load_architecture, lower
from nas.errors import NasError, RunError, TrainError
from nas.search import final
from nas.search.final import FinalResult, page_at, train_final
from nas.space.page import read_page
from nas.space.parse import parse_page
from nas.space.search_space import Architecture
from nas.train import Dataset, EpochResult, Recipe, RecipePage, evaluate, load_data
from tests.search.runs import write_data

PAGE = "{name: net, network: [{op: conv_bn_act, kernel_size: 3, out_channels: 8}, global_avg_pool, classifier]}"
NET = Architecture(parse_page(read_page(PAGE, "net")))
RECIPE = RecipePage(name="short", source="a test", recipe=Recipe(epochs=3, batch_size=16, ema=0.9, mixup=0.2, cutout=2))


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_data(str(write_data(tmp_path_factory.mktemp("data") / "tiny.npz")))


def train(data: Dataset, folder: Path, **words: object) -> FinalResult:
    return train_final(NET, Size(), data, RECIPE, folder=folder, **words)  # type: ignore[arg-type]


def weights(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return state


def curve(result: FinalResult) -> list[tuple[float, float]]:
    return [(epoch.train_loss, epoch.val_accuracy) for epoch in result.history]


def test_a_folder_with_all_that_is_needed(data: Dataset, tmp_path: Path) -> None:
    result = train(data, tmp_path / "t")
    assert result.finished
    assert {p.name for p in result.folder.iterdir()} == {".lock", "architecture.yaml", "training.yaml", "best.pt", "last.pt",
                                                         "metrics.json"}  # fmt: skip
    metrics = json.loads((result.folder / "metrics.json").read_text())
    assert metrics == result.metrics
    assert metrics["weights"] == "fully trained"
    assert metrics["epochs"] == len(metrics["curve"]) == 3
    assert metrics["data"]["fingerprint"] == data.fingerprint
    network = build(lower(load_architecture(str(result.folder / "architecture.yaml"))))
    network.load_state_dict(weights(result.weights))
    assert evaluate(network, data.test())[0] == metrics["test_accuracy"]
    assert evaluate(network, data.validation)[0] == metrics["val_accuracy"] == max(e.val_accuracy for e in result.history)
    network.load_state_dict(weights(result.folder / "last.pt"))
    assert evaluate(network, data.validation)[0] == metrics["last_val_accuracy"]


def test_a_killed_training_goes_on_bit_for_bit(data: Dataset, tmp_path: Path) -> None:
    def kill(epoch: EpochResult, epochs: int) -> None:
        if epoch.epoch == 1:
            raise Killed

    whole = train(data, tmp_path / "whole")
    with pytest.raises(Killed):
        train(data, tmp_path / "part", on_epoch=kill)
    heard: list[tuple[int, int]] = []
    part = train(data, tmp_path / "part", on_epoch=lambda epoch, epochs: heard.append((epoch.epoch, epochs)))
    assert heard == [(1, 3), (2, 3)]
    assert curve(part) == curve(whole)
    for name in ("best.pt", "last.pt"):
        a, b = weights(tmp_path / "whole" / name), weights(tmp_path / "part" / name)
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_enough_of_a_training_is_taken_for_the_end(data: Dataset, tmp_path: Path) -> None:
    early = train(data, tmp_path / "t", on_epoch=lambda epoch, epochs: epoch.epoch == 0, enough=0.6)
    assert not early.finished
    late = train(data, tmp_path / "t", on_epoch=lambda epoch, epochs: epoch.epoch == 1, enough=0.6)
    assert late.metrics is not None
    assert (late.metrics["epochs"], late.metrics["weights"]) == (2, "trained for 2 of the recipe's 3 epochs, planned were 3")
    assert train(data, tmp_path / "t").metrics == late.metrics


def test_a_stopped_training_is_not_finished_and_goes_on(data: Dataset, tmp_path: Path) -> None:
    stopped = train(data, tmp_path / "t", on_epoch=lambda epoch, epochs: epoch.epoch == 0)
    assert not stopped.finished
    assert len(stopped.history) == 1
    assert train(data, tmp_path / "t").finished


def test_a_test_split_that_was_sealed_is_read_by_who_opens_it(data: Dataset, tmp_path: Path) -> None:
    whole = train(data, tmp_path / "whole")
    sealed = train(data.sealed(), tmp_path / "t")
    assert sealed.metrics is not None
    assert sealed.metrics["test_accuracy"] is None
    assert train(data.sealed(), tmp_path / "t").metrics == sealed.metrics
    opened = train(data, tmp_path / "t")
    assert opened.metrics is not None
    assert whole.metrics is not None
    assert opened.metrics["test_accuracy"] == whole.metrics["test_accuracy"]
    assert json.loads((tmp_path / "t" / "metrics.json").read_text()) == opened.metrics


def test_a_finished_training_is_read_back(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(data, tmp_path / "t")
    monkeypatch.setattr(final, "fit", None)
    monkeypatch.setattr(final, "evaluate", None)
    assert train(data, tmp_path / "t") == first


@pytest.mark.parametrize(("words", "what"), [
    ({"seed": 1}, "another seed"), ({"epochs": 5}, "another recipe"),
    ({"size": Size(width=2.0)}, "another network or size"), ({"limit": 40}, "another data"),
])  # fmt: skip
@pytest.mark.parametrize("done", [True, False])
def test_another_training_is_refused(data: Dataset, tmp_path: Path, words: dict, what: str, done: bool) -> None:
    train(data, tmp_path / "t", on_epoch=None if done else lambda epoch, epochs: True)
    if "limit" in words:
        write_data(tmp_path / "other.npz", seed=1)
        data, words = load_data(str(tmp_path / "other.npz")), {}
    with pytest.raises(RunError, match=what):
        train_final(NET, data=data, recipe=RECIPE, folder=tmp_path / "t", **{"size": Size(), **words})


def test_epochs_are_planned_for_the_time_there_is(data: Dataset, tmp_path: Path) -> None:
    long = replace(RECIPE, recipe=replace(RECIPE.recipe, epochs=100_000, warmup_epochs=10.0))
    result = train_final(NET, Size(), data, long, folder=tmp_path / "t", seconds=0.5,
                         on_epoch=lambda epoch, epochs: True)  # fmt: skip
    assert 1 <= result.recipe.epochs < 100_000
    assert result.recipe.warmup_epochs <= result.recipe.epochs / 5
    assert result.recipe.learning_rate_at(result.recipe.epochs) < 1e-9
    again = train_final(NET, Size(), data, long, folder=tmp_path / "t", seconds=9.0, on_epoch=lambda epoch, epochs: True)
    assert again.recipe == result.recipe, "a plan stands"
    assert train_final(NET, Size(), data, RECIPE, folder=tmp_path / "u", seconds=1e6,
                       on_epoch=lambda epoch, epochs: True).recipe.epochs == 3  # fmt: skip


def test_a_shortened_recipe_is_told(data: Dataset, tmp_path: Path) -> None:
    result = train(data, tmp_path / "t", epochs=1)
    assert result.metrics is not None
    assert result.metrics["weights"] == "trained for 1 of the recipe's 3 epochs"


def test_a_sealed_data_set_keeps_its_test_split(data: Dataset, tmp_path: Path) -> None:
    result = train(data.sealed(), tmp_path / "t")
    assert result.metrics is not None
    assert result.metrics["test_accuracy"] is None


def test_two_at_once_are_refused(data: Dataset, tmp_path: Path) -> None:
    def second(epoch: EpochResult, epochs: int) -> None:
        with pytest.raises(RunError, match="another process"):
            train(data, tmp_path / "t")

    train(data, tmp_path / "t", epochs=1, on_epoch=second)


def test_what_does_not_fit_is_told(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="3x32x32 images in 3 classes"):
        train_final(NET, Size(input=(3, 32, 32)), data, RECIPE, folder=tmp_path / "t")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        train(data, tmp_path / "file" / "t")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "training.yaml").write_text("- no")
    with pytest.raises(RunError, match="cannot be read"):
        train(data, tmp_path / "d")


@pytest.mark.parametrize("name", ["efficientnet_b3", "darts_v2_cifar", "efficientnet_v2_s", "nasnet_a_cifar"])
def test_a_page_at_a_size_is_the_network_of_that_size(name: str) -> None:
    architecture, size = load_architecture(name), Size(width=0.5, depth=0.5, input=(3, 64, 64), num_classes=7)
    graph, written = lower(architecture, size), lower(Architecture(page_at(architecture, size, "mine")))
    assert (written.num_params, written.macs, written.inputs) == (graph.num_params, graph.macs, graph.inputs)


def test_a_diverged_training_is_an_error(data: Dataset, tmp_path: Path) -> None:
    wild = replace(RECIPE, recipe=Recipe(epochs=9, batch_size=8, learning_rate=1e30, momentum=0.0))
    with pytest.raises(NasError, match="diverged"):
        train_final(NET, Size(), data, wild, folder=tmp_path / "t")
