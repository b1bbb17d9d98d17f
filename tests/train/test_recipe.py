from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import TrainError
from nas.train import Augmentation, Recipe, bundled_recipes, find_recipe


@pytest.mark.parametrize("recipe", [*map(find_recipe, bundled_recipes()), Recipe(ema=0.99, crop_padding=3, flip=False)])
def test_mapping_and_yaml_are_inverses(recipe: Recipe) -> None:
    assert Recipe.from_mapping(recipe.to_mapping()) == recipe
    assert Recipe.from_mapping(yaml.safe_load(yaml.safe_dump(recipe.to_mapping()))) == recipe


def test_mapping_over_a_base() -> None:
    recipe = Recipe.from_mapping({"epochs": 3, "learning_rate": 1}, base=find_recipe("cifar"))
    assert recipe == dataclasses.replace(find_recipe("cifar"), epochs=3, learning_rate=1.0)
    assert isinstance(recipe.learning_rate, float)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"epoch": 3}, "Did you mean 'epochs'"), ({"learning-rate": 1.0}, "Did you mean 'learning_rate'"),
    ({"optimizer": "adam"}, "Did you mean 'adamw'"), ({"schedule": "cosin"}, "Did you mean 'cosine'"),
    ({"amp": "bf16"}, "float32 or bfloat16 or auto"), ({"epochs": 0}, "1 or more"), ({"epochs": 2.5}, "expected int"),
    ({"epochs": True}, "expected int"), ({"batch_size": 1}, "2 or more"), ({"learning_rate": "1e-3"}, r"write 1\.0e-3"),
    ({"learning_rate": float("nan")}, "out of range"), ({"label_smoothing": 1.5}, r"0\.\.1"), ({"flip": 1}, "bool"),
    ({"ema": 2.0}, "recipe.ema"), ({"channels_last": None}, "recipe.channels_last"), ({3: 4}, "unknown key"),
]  # fmt: skip


@pytest.mark.parametrize(("mapping", "message"), WRONG, ids=[str(mapping) for mapping, _ in WRONG])
def test_wrong_recipe(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainError, match=message):
        Recipe.from_mapping(mapping)


def test_augmentation_takes_the_data_sets_own_where_it_says_nothing() -> None:
    default = Augmentation(crop_padding=2, flip=True)
    assert Recipe(cutout=5).augmentation(default) == Augmentation(crop_padding=2, flip=True, cutout=5)
    assert Recipe(crop_padding=0, flip=False).augmentation(default) == Augmentation()
    assert Recipe(cutout=16).augmentation(default, 0, 8).cutout == 4


@settings(deadline=None)
@given(schedule=st.sampled_from(["cosine", "linear", "exponential", "constant"]), epochs=st.integers(1, 50),
       warmup=st.floats(0, 60), place=st.floats(0, 1))  # fmt: skip
def test_learning_rate_stays_within_its_peak(schedule: str, epochs: int, warmup: float, place: float) -> None:
    recipe = Recipe(schedule=schedule, epochs=epochs, warmup_epochs=warmup, learning_rate=0.3)
    assert -1e-12 <= recipe.learning_rate_at(place * epochs) <= 0.3 + 1e-12


def test_schedule_has_the_known_values() -> None:
    cosine = Recipe(epochs=12, warmup_epochs=2.0, learning_rate=0.4)
    assert [cosine.learning_rate_at(e) for e in (0, 1, 2, 7, 12)] == pytest.approx([0, 0.2, 0.4, 0.2, 0], abs=1e-12)
    linear = dataclasses.replace(cosine, schedule="linear")
    assert [linear.learning_rate_at(e) for e in (2, 4.5, 12)] == pytest.approx([0.4, 0.3, 0], abs=1e-12)
    exponential = dataclasses.replace(cosine, epochs=350, warmup_epochs=0.0, schedule="exponential")
    assert [exponential.learning_rate_at(e) for e in (0, 2.4, 4.8)] == pytest.approx([0.4, 0.4 * 0.97, 0.4 * 0.97**2])
    assert dataclasses.replace(cosine, schedule="constant").learning_rate_at(12) == 0.4


def test_stages_grow_to_the_whole() -> None:
    recipe = Recipe(epochs=8, stages=4, first_size=0.25, first_strength=0.4, drop_path=0.5)
    assert [recipe.side_at(e, 32) for e in range(8)] == [8, 8, 16, 16, 24, 24, 32, 32]
    assert [recipe.strength_at(e) for e in (0, 2, 4, 6)] == pytest.approx([0.4, 0.6, 0.8, 1.0])
    assert [recipe.drop_path_at(e) for e in (0, 7)] == [0.5, 0.5]
    assert [recipe.augmentation(Augmentation(), e, 32).size for e in (0, 7)] == [8, None]


def test_without_stages_all_is_whole_and_drop_path_grows_by_epoch() -> None:
    recipe = Recipe(epochs=5, drop_path=0.2, first_size=0.5, first_strength=0.1)
    assert {(recipe.side_at(e, 32), recipe.strength_at(e)) for e in range(5)} == {(32, 1.0)}
    assert [recipe.drop_path_at(e) for e in range(5)] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


@settings(deadline=None)
@given(epochs=st.integers(1, 40), stages=st.integers(1, 9), first=st.floats(0, 1), side=st.integers(1, 64))
def test_stages_never_shrink_and_end_whole(epochs: int, stages: int, first: float, side: int) -> None:
    recipe = Recipe(epochs=epochs, stages=stages, first_size=first, first_strength=first).lasting(epochs)
    sides = [recipe.side_at(e, side) for e in range(epochs)]
    assert sides == sorted(sides)
    assert sides[0] >= 1
    assert sides[-1] == side or recipe.stages == 1
    assert recipe.strength_at(epochs - 1) == 1.0


def test_another_length_and_batch() -> None:
    recipe = Recipe(epochs=100, warmup_epochs=5.0, batch_size=128, learning_rate=0.1, stages=4)
    short = recipe.lasting(2)
    assert (short.epochs, short.warmup_epochs, short.stages) == (2, 0.4, 2)
    assert recipe.lasting(200).warmup_epochs == 5.0
    assert recipe.batched(64).learning_rate == pytest.approx(0.05)


def test_amp_is_settled_by_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(amp="auto")
    assert recipe.on("cpu").amp == "float32"
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: True)
    assert recipe.on("cuda").amp == "bfloat16"
    assert Recipe(amp="bfloat16").on("cpu").amp == "bfloat16"
