from __future__ import annotations

from pathlib import Path

import pytest

from nas.errors import NasError, TrainError
from nas.train import Recipe, bundled_recipes, find_recipe, load_recipe


@pytest.mark.parametrize("name", ["quick", "cifar", "imagenet", "efficientnet_v2"])
def test_bundled_recipes_say_where_they_come_from(name: str) -> None:
    page = bundled_recipes()[name]
    assert page.name == name
    assert len(page.source) > 20
    assert find_recipe(name) is page.recipe


def test_published_values() -> None:
    cifar, imagenet, v2 = (find_recipe(name) for name in ("cifar", "imagenet", "efficientnet_v2"))
    assert (cifar.epochs, cifar.batch_size, cifar.learning_rate, cifar.cutout, cifar.drop_path) == (600, 96, 0.025, 16, 0.2)
    assert (cifar.aux_weight, cifar.grad_clip, cifar.weight_decay, cifar.nesterov) == (0.4, 5.0, 3e-4, False)
    assert (imagenet.epochs, imagenet.label_smoothing, imagenet.ema, imagenet.aux_weight) == (250, 0.1, 0.9999, 0.4)
    assert (v2.stages, v2.optimizer, v2.schedule, v2.mixup) == (4, "rmsprop", "exponential", 0.2)
    assert [v2.side_at(e, 380) for e in (0, 349)] == [128, 380]


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("source: me\nlike: cifar\nepochs: 3\nlearning_rate: 1e-2\n")
    page = load_recipe(str(path))
    assert (page.name, page.source, page.recipe.epochs, page.recipe.learning_rate) == ("mine", "me", 3, 0.01)
    assert page.recipe.cutout == find_recipe("cifar").cutout
    path.write_text("epochs: 3\n")
    assert load_recipe(str(path)).recipe == Recipe(epochs=3)


WRONG = [
    ("epochs: 2\nepoch: 3\n", r"mine\.yaml:2: recipe.*Did you mean 'epochs'"), ("like: cifra\n", "Did you mean 'cifar'"),
    ("x: 1\n\nepochs: [1]\n", r"mine\.yaml"),
    ("\nepochs: 0\n", r"mine\.yaml:2: recipe\.epochs: .*1 or more"), ("- 1\n", "mapping"),
    ("epochs: !!python/name:os.system\n", "mine"), ("like: [cifar]\n", "bundled"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_file_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(NasError, match=message):
        load_recipe(str(path))


@pytest.mark.parametrize(("word", "message"), [("quik", "Did you mean 'quick'"), ("none.yaml", "no such recipe")])
def test_unknown_recipe(word: str, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        load_recipe(word)
