from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.errors import TrainError
from nas.net.build import build
from nas.net.lower import lower
from nas.space.parse import parse_text
from nas.space.search_space import Architecture
from nas.train import Dataset, EpochResult, FitResult, Recipe, evaluate, fit, load_data, seed_everything

Make = Callable[..., nn.Module]
FAST = Recipe(epochs=3, batch_size=32)


def metrics(result: FitResult) -> list[tuple[float, float, float]]:
    """All that must be equal between equal trainings."""
    return [(e.train_loss, e.val_accuracy, e.val_loss) for e in result.history]


def equal_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_learns_digits(digits: Dataset, make_net: Make) -> None:
    net = make_net()
    result = fit(net, digits, Recipe(epochs=4, batch_size=64))
    assert result.val_accuracy > 0.9
    assert result.history[-1].train_loss < result.history[0].train_loss
    assert not result.stopped
    assert [e.epoch for e in result.history] == [0, 1, 2, 3]
    assert all(e.images_per_s > 0 and e.seconds > 0 for e in result.history)
    assert evaluate(net, digits.validation) == (result.last.val_accuracy, result.last.val_loss)
    assert evaluate(net, digits.test())[0] > 0.9


VARIANTS = {
    "adamw": Recipe(epochs=2, batch_size=32, optimizer="adamw", learning_rate=3e-3),
    "bfloat16": replace(FAST, amp="bfloat16"),
    "channels first": replace(FAST, channels_last=False),
    "clip, smoothing, warm-up, linear": replace(FAST, grad_clip=1.0, label_smoothing=0.1, warmup_epochs=0.5,
                                                schedule="linear"),
    "average": replace(FAST, ema=0.9),
    "cutout": replace(FAST, cutout=3, crop_padding=0),
    "mixup": replace(FAST, mixup=0.2), "resized crop": replace(FAST, resized_crop=0.5, crop_padding=0),
    "rmsprop, exponential": replace(FAST, optimizer="rmsprop", schedule="exponential", learning_rate=0.03),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_every_setting_learns(few_digits: Dataset, make_net: Make, name: str) -> None:
    result = fit(make_net(), few_digits, VARIANTS[name])
    assert result.val_accuracy > 0.3
    assert metrics(result) == metrics(fit(make_net(), few_digits, VARIANTS[name]))


def test_equal_seeds_are_bit_equal_and_others_are_not(few_digits: Dataset, make_net: Make) -> None:
    nets = [make_net(dropout=0.2) for _ in range(3)]
    results = [fit(net, few_digits, FAST, seed=seed) for net, seed in zip(nets, (7, 7, 8), strict=True)]
    assert metrics(results[0]) == metrics(results[1]) != metrics(results[2])
    assert equal_weights(nets[0], nets[1])


def test_way_is_given_after_every_step_and_changes_nothing(few_digits: Dataset, make_net: Make) -> None:
    steps: list[int] = []
    with_it = fit(make_net(), few_digits, FAST, on_step=lambda: steps.append(1))
    assert len(steps) == FAST.epochs * -(-len(few_digits.train) // FAST.batch_size)
    assert metrics(with_it) == metrics(fit(make_net(), few_digits, FAST))


def test_the_callers_random_state_is_untouched(few_digits: Dataset, make_net: Make) -> None:
    with seed_everything(3):
        expected = torch.rand(())
    with seed_everything(3):
        fit(make_net(dropout=0.1), few_digits, replace(FAST, epochs=1))
        assert torch.equal(torch.rand(()), expected)


def test_stop(few_digits: Dataset, make_net: Make) -> None:
    heard: list[EpochResult] = []

    def on_epoch(epoch: EpochResult) -> bool:
        heard.append(epoch)
        return epoch.epoch == 1

    result = fit(make_net(), few_digits, FAST, on_epoch=on_epoch)
    assert result.stopped
    assert list(result.history) == heard
    assert len(heard) == 2


def test_stop_at_the_last_epoch_is_no_stop(few_digits: Dataset, make_net: Make) -> None:
    assert not fit(make_net(), few_digits, replace(FAST, epochs=1), on_epoch=lambda _: True).stopped


class Explode(nn.Module):
    """Returns infinite scores from its n-th training step on."""

    def __init__(self, net: nn.Module, step: int) -> None:
        super().__init__()
        self.net, self.left = net, step

    def forward(self, x: Tensor) -> Tensor:
        self.left -= self.training
        scores: Tensor = self.net(x)
        return scores * float("inf") if self.left < 0 and self.training else scores


@pytest.mark.parametrize(("step", "epoch"), [(0, 0), (5, 1)])
def test_loss_that_is_not_finite_names_the_epoch(few_digits: Dataset, make_net: Make, step: int, epoch: int) -> None:
    with pytest.raises(TrainError, match=f"epoch {epoch}: the training loss is nan"):
        fit(Explode(make_net(), step), few_digits, FAST)


def test_divergence_is_seen_inside_a_long_epoch(
    few_digits: Dataset, make_net: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fit.__globals__, "CHECK_EVERY", 2)
    net = Explode(make_net(), 0)
    with pytest.raises(TrainError, match="epoch 0"):
        fit(net, few_digits, replace(FAST, batch_size=10))
    assert net.left == -2


def test_network_with_another_number_of_classes(few_digits: Dataset, make_net: Make) -> None:
    with pytest.raises(TrainError, match=r"tensor \(N, 10\)"):
        fit(make_net(num_classes=9), few_digits, FAST)


def test_out_of_memory_passes_through(few_digits: Dataset) -> None:
    class Large(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("too large")

    with pytest.raises(torch.OutOfMemoryError):
        fit(Large(1, 1), few_digits, FAST)


class WithExtras(nn.Module):
    """An auxiliary head, and a module that is told the drop-path probability."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.aux = net, nn.Linear(64, 10)
        self.drop_prob = 0.0
        self.told: list[float] = []

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if not self.training:
            return self.net(x)
        self.told.append(self.drop_prob)
        return self.net(x), self.aux(x.flatten(1))


def test_auxiliary_head_and_drop_path(few_digits: Dataset, make_net: Make) -> None:
    net, without = WithExtras(make_net()), WithExtras(make_net())
    before = net.aux.weight.clone()
    without.load_state_dict(net.state_dict())
    fit(net, few_digits, replace(FAST, aux_weight=0.4, drop_path=0.2, weight_decay=0.0))
    fit(without, few_digits, replace(FAST, weight_decay=0.0))
    assert sorted(set(net.told)) == pytest.approx([0.0, 0.1, 0.2])
    assert not torch.equal(net.aux.weight, before)
    assert torch.equal(without.aux.weight, before)


def test_images_and_dropout_grow_by_stages(few_digits: Dataset) -> None:
    class Look(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.dropout = nn.Linear(1, 10), nn.Dropout(0.4)
            self.seen: list[tuple[int, float]] = []

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                self.seen.append((x.shape[-1], round(self.dropout.p, 6)))
            scores: Tensor = self.net(x.mean((2, 3)))
            return scores

    net = Look()
    fit(net, few_digits, Recipe(epochs=4, batch_size=64, stages=2, first_size=0.5, first_strength=0.25))
    assert net.seen == [(4, 0.1)] * 4 + [(8, 0.4)] * 4
    assert net.dropout.p == 0.4


def test_a_network_of_one_size_is_refused_before_it_is_trained(few_digits: Dataset, make_net: Make) -> None:
    with pytest.raises(TrainError, match="does not take images of this size"):
        fit(make_net(), few_digits, replace(FAST, stages=2, first_size=0.5))


def test_mixup_mixes_labels_as_it_mixes_images(few_digits: Dataset) -> None:
    """A network that says nothing has the same loss for every label: mixing leaves it."""
    class Silent(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.flatten(1)) * 0

    result = fit(Silent(64, 10), few_digits, replace(FAST, epochs=1, mixup=1.0))
    assert result.last.train_loss == pytest.approx(2.302585, abs=1e-5)


def test_the_best_weights_are_kept(few_digits: Dataset, make_net: Make, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    kept: list[tuple[float, dict[str, Tensor]]] = []
    net = make_net()

    def on_epoch(epoch: EpochResult) -> None:
        kept.append((epoch.val_accuracy, torch.load(path, weights_only=True)))

    result = fit(net, few_digits, replace(FAST, epochs=4, learning_rate=0.8), best=path, on_epoch=on_epoch)
    best = make_net(5)
    best.load_state_dict(torch.load(path, weights_only=True))
    assert evaluate(best, few_digits.validation)[0] == result.best.val_accuracy == max(accuracy for accuracy, _ in kept)
    assert result.best.epoch == [accuracy for accuracy, _ in kept].index(result.best.val_accuracy)


HELPED = """
name: helped
input: [1, 8, 8]
network:
  - {name: body, op: conv_bn_act, out_channels: 4}
  - {name: more, op: conv_bn_act, out_channels: 8, stride: 2}
  - global_avg_pool
  - classifier
auxiliary:
  - {name: aux1, from: body, layers: [global_avg_pool, classifier]}
  - {name: aux2, from: more, layers: [global_avg_pool, classifier]}
"""


def test_every_auxiliary_head_of_a_page_is_trained(few_digits: Dataset) -> None:
    net = build(lower(Architecture(parse_text(HELPED))))
    heads = [net.get_parameter(f"{name}.1.weight") for name in ("aux1", "aux2")]
    before = [weight.clone() for weight in heads]
    fit(net, few_digits, replace(FAST, aux_weight=0.4, weight_decay=0.0))
    assert not any(map(torch.equal, heads, before))


def test_streamed_training(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (tmp_path / name).mkdir()
        for i in range(20):
            pixels = rng.integers(0, 100, (8, 8), dtype=np.uint8) + np.uint8(150 * label)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    results = []
    for memory_limit in (100, 10**6):
        data = load_data(str(tmp_path), image_size=8, memory_limit=memory_limit, workers=0)
        with seed_everything(0):
            net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        results.append(fit(net, data, replace(FAST, batch_size=8)))
    assert metrics(results[0]) == metrics(results[1])
    assert results[0].val_accuracy == 1.0
