from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.errors import TrainError
from nas.train import Dataset, EpochResult, FitResult, Recipe, fit, load_data

Make = Callable[..., nn.Module]
RECIPES = {
    "sgd": Recipe(epochs=4, batch_size=32),
    "adamw": Recipe(epochs=4, batch_size=32, optimizer="adamw", learning_rate=3e-3),
    "average": Recipe(epochs=4, batch_size=32, ema=0.9, drop_path=0.1),
    "all": Recipe(epochs=4, batch_size=32, ema=0.9, mixup=0.4, cutout=2, resized_crop=0.5, optimizer="rmsprop",
                  learning_rate=0.002, first_strength=0.5, stages=2),
}


def metrics(result: FitResult) -> list[tuple[float, float, float]]:
    return [(e.train_loss, e.val_accuracy, e.val_loss) for e in result.history]


def equal_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class Killed(BaseException):
    pass


def kill_in(epoch: int) -> Callable[[EpochResult], None]:
    def on_epoch(result: EpochResult) -> None:
        if result.epoch == epoch:
            raise Killed

    return on_epoch


@pytest.mark.parametrize("name", RECIPES)
def test_resumed_training_is_bit_equal(few_digits: Dataset, make_net: Make, tmp_path: Path, name: str) -> None:
    recipe, path = RECIPES[name], tmp_path / "run" / "trial.pt"
    whole, part = make_net(dropout=0.2), make_net(dropout=0.2)
    expected = fit(whole, few_digits, recipe)
    with pytest.raises(Killed):
        fit(part, few_digits, recipe, checkpoint=path, on_epoch=kill_in(2))
    (path.parent / "trial.pt.123.tmp").write_bytes(b"half a checkpoint")
    resumed = make_net(99, dropout=0.2)
    heard: list[int] = []
    result = fit(resumed, few_digits, recipe, checkpoint=path, on_epoch=lambda e: heard.append(e.epoch))
    assert heard == [2, 3]
    assert metrics(result) == metrics(expected)
    assert equal_weights(resumed, whole)
    assert [p.name for p in path.parent.iterdir()] == ["trial.pt"]


def test_a_stopped_training_goes_on(few_digits: Dataset, make_net: Make, tmp_path: Path) -> None:
    recipe, path = RECIPES["sgd"], tmp_path / "trial.pt"
    expected = fit(make_net(), few_digits, recipe)
    first = fit(make_net(), few_digits, recipe, checkpoint=path, on_epoch=lambda e: e.epoch == 1)
    assert first.stopped
    result = fit(make_net(5), few_digits, recipe, checkpoint=path)
    assert result.history[:2] == first.history
    assert metrics(result) == metrics(expected)


def test_a_finished_training_only_loads(few_digits: Dataset, make_net: Make, tmp_path: Path) -> None:
    recipe, path = RECIPES["average"], tmp_path / "trial.pt"
    net, again = make_net(), make_net(5)
    first = fit(net, few_digits, recipe, checkpoint=path)
    second = fit(again, few_digits, recipe, checkpoint=path, on_epoch=kill_in(0))
    assert first == second
    assert equal_weights(net, again)


@pytest.fixture
def saved(few_digits: Dataset, make_net: Make, tmp_path: Path) -> Path:
    path = tmp_path / "trial.pt"
    fit(make_net(), few_digits, RECIPES["sgd"], checkpoint=path, on_epoch=lambda e: True)
    return path


@pytest.mark.parametrize("keep", [0, 10, 5000, -100])
def test_truncated_checkpoint(few_digits: Dataset, make_net: Make, saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(TrainError, match=r"trial\.pt: the checkpoint is damaged.*Delete the file"):
        fit(make_net(), few_digits, RECIPES["sgd"], checkpoint=saved)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return exit, ()


@pytest.mark.parametrize(("content", "message"), [
    (Evil(), "damaged"), ([1], "not a checkpoint"), ({"model": {}}, "not a checkpoint"),
])  # fmt: skip
def test_foreign_file(few_digits: Dataset, make_net: Make, saved: Path, content: object, message: str) -> None:
    torch.save(content, saved)
    with pytest.raises(TrainError, match=message):
        fit(make_net(), few_digits, RECIPES["sgd"], checkpoint=saved)


def test_another_trainings_checkpoint_is_refused(few_digits: Dataset, make_net: Make, saved: Path) -> None:
    recipe = RECIPES["sgd"]
    with pytest.raises(TrainError, match="another seed"):
        fit(make_net(), few_digits, recipe, seed=1, checkpoint=saved)
    with pytest.raises(TrainError, match="another recipe"):
        fit(make_net(), few_digits, replace(recipe, epochs=5), checkpoint=saved)
    with pytest.raises(TrainError, match="another data"):
        fit(make_net(), load_data("digits", limit=90), recipe, checkpoint=saved)
    with pytest.raises(TrainError, match="another network"):
        fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), few_digits, recipe, checkpoint=saved)


def test_place_that_cannot_be_written(few_digits: Dataset, make_net: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainError, match="cannot write the checkpoint"):
        fit(make_net(), few_digits, RECIPES["sgd"], checkpoint=tmp_path / "file" / "trial.pt")
