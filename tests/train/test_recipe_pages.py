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


PAPERS = {
    "cifar": {
        "epochs": 600, "batch_size": 96, "optimizer": "sgd", "learning_rate": 0.025, "momentum": 0.9, "nesterov": False,
        "weight_decay": 3e-4, "schedule": "cosine", "warmup_epochs": 0.0, "label_smoothing": 0.0, "grad_clip": 5.0,
        "aux_weight": 0.4, "drop_path": 0.2, "crop_padding": 4, "flip": True, "resized_crop": 0.0, "cutout": 16, "mixup": 0.0,
        "stages": 1, "ema": None,
    },
    "imagenet": {
        "epochs": 250, "batch_size": 1024, "optimizer": "sgd", "learning_rate": 0.5, "momentum": 0.9, "nesterov": False,
        "weight_decay": 3e-5, "schedule": "linear", "warmup_epochs": 5.0, "label_smoothing": 0.1, "grad_clip": 5.0,
        "aux_weight": 0.4, "drop_path": 0.0, "crop_padding": 0, "flip": True, "resized_crop": 0.08, "cutout": 0, "mixup": 0.0,
        "stages": 1, "ema": 0.9999,
    },
    "efficientnet_v2": {
        "epochs": 350, "batch_size": 4096, "optimizer": "rmsprop", "learning_rate": 0.256, "momentum": 0.9,
        "weight_decay": 1e-5, "schedule": "exponential", "warmup_epochs": 5.0, "label_smoothing": 0.1, "grad_clip": 0.0,
        "aux_weight": 0.0, "drop_path": 0.2, "crop_padding": 0, "flip": True, "resized_crop": 0.08, "cutout": 0, "mixup": 0.2,
        "stages": 4, "ema": 0.9999,
    },
}  # fmt: skip
"""DARTS; P-DARTS with NASNet's average; EfficientNetV2-M: the table of docs/training.md."""


@pytest.mark.parametrize("name", PAPERS)
def test_published_values(name: str) -> None:
    recipe = find_recipe(name).to_mapping()
    assert {key: recipe[key] for key in PAPERS[name]} == PAPERS[name]


def test_progressive_resizing_is_that_of_efficientnet_v2_m() -> None:
    recipe = find_recipe("efficientnet_v2")
    assert [recipe.side_at(e, 380) for e in (0, 100, 200, 349)] == [128, 212, 296, 380]
    assert [0.4 * recipe.strength_at(e) for e in (0, 349)] == pytest.approx([0.1, 0.4])  # dropout
    assert {recipe.drop_path_at(e) for e in (0, 349)} == {0.2}


WORDS = {"learning rate": "learning_rate", "epochs": "epochs", "batch": "batch_size", "weight decay": "weight_decay",
         "label smoothing": "label_smoothing", "auxiliary head": "aux_weight", "largest gradient norm": "grad_clip",
         "average of the weights": "ema", "mixup": "mixup", "drop path": "drop_path", "cutout": "cutout"}  # fmt: skip


def test_the_documented_table_says_the_same() -> None:
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    table = text.split("### The published settings\n")[1].split("\n### ")[0]
    rows = {cells[0]: cells[1:] for line in table.splitlines() if (cells := [c.strip() for c in line.strip("|").split("|")])}
    for word, key in WORDS.items():
        for name, cell in zip(PAPERS, rows[word], strict=False):
            value = find_recipe(name).to_mapping()[key]
            assert (cell == "-") == (not value), (word, name)
            assert cell == "-" or float(cell.split()[0].rstrip(",;")) == value, (word, name)


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
