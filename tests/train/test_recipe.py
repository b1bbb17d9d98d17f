from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import TrainError
from nas.train import RECIPES, Augmentation, Recipe, find_recipe


@pytest.mark.parametrize("recipe", [*RECIPES.values(), Recipe(ema=0.99, crop_padding=3, flip=False)])
def test_mapping_and_yaml_are_inverses(recipe: Recipe) -> None:
    assert Recipe.from_mapping(recipe.to_mapping()) == recipe
    assert Recipe.from_mapping(yaml.safe_load(yaml.safe_dump(recipe.to_mapping()))) == recipe


def test_mapping_over_a_base() -> None:
    recipe = Recipe.from_mapping({"epochs": 3, "learning_rate": 1}, base=RECIPES["cifar"])
    assert recipe == dataclasses.replace(RECIPES["cifar"], epochs=3, learning_rate=1.0)
    assert isinstance(recipe.learning_rate, float)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"epoch": 3}, "Did you mean 'epochs'"), ({"learning-rate": 1.0}, "Did you mean 'learning_rate'"),
    ({"optimizer": "adam"}, "Did you mean 'adamw'"), ({"schedule": "cosin"}, "Did you mean 'cosine'"),
    ({"amp": "bf16"}, "float32 or bfloat16"), ({"epochs": 0}, "1 or more"), ({"epochs": 2.5}, "expected int"),
    ({"epochs": True}, "expected int"), ({"batch_size": 1}, "2 or more"), ({"learning_rate": "1e-3"}, r"write 1\.0e-3"),
    ({"learning_rate": float("nan")}, "out of range"), ({"label_smoothing": 1.5}, r"0\.\.1"), ({"flip": 1}, "bool"),
    ({"ema": 2.0}, "recipe.ema"), ({"channels_last": None}, "recipe.channels_last"), ({3: 4}, "unknown key"),
]  # fmt: skip


@pytest.mark.parametrize(("mapping", "message"), WRONG, ids=[str(mapping) for mapping, _ in WRONG])
def test_wrong_recipe(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainError, match=message):
        Recipe.from_mapping(mapping)


def test_named_recipe() -> None:
    assert find_recipe("quick") is RECIPES["quick"]
    with pytest.raises(TrainError, match="Did you mean 'quick'"):
        find_recipe("quik")


def test_augmentation_takes_the_data_sets_own_where_it_says_nothing() -> None:
    default = Augmentation(crop_padding=2, flip=True)
    assert Recipe(cutout=5).augmentation(default) == Augmentation(crop_padding=2, flip=True, cutout=5)
    assert Recipe(crop_padding=0, flip=False).augmentation(default) == Augmentation()


@settings(deadline=None)
@given(schedule=st.sampled_from(["cosine", "linear", "constant"]), epochs=st.integers(1, 50), warmup=st.floats(0, 60),
       place=st.floats(0, 1))  # fmt: skip
def test_learning_rate_stays_within_its_peak(schedule: str, epochs: int, warmup: float, place: float) -> None:
    recipe = Recipe(schedule=schedule, epochs=epochs, warmup_epochs=warmup, learning_rate=0.3)
    assert -1e-12 <= recipe.learning_rate_at(place * epochs) <= 0.3 + 1e-12


def test_schedule_has_the_known_values() -> None:
    cosine = Recipe(epochs=12, warmup_epochs=2.0, learning_rate=0.4)
    assert [cosine.learning_rate_at(e) for e in (0, 1, 2, 7, 12)] == pytest.approx([0, 0.2, 0.4, 0.2, 0], abs=1e-12)
    linear = dataclasses.replace(cosine, schedule="linear")
    assert [linear.learning_rate_at(e) for e in (2, 4.5, 12)] == pytest.approx([0.4, 0.3, 0], abs=1e-12)
    assert dataclasses.replace(cosine, schedule="constant").learning_rate_at(12) == 0.4
