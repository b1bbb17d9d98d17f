"""Training a network on a data set. Knows torch, not search spaces."""

from nas.train.augment import Augmentation
from nas.train.data import Dataset, load_data
from nas.train.evaluate import evaluate
from nas.train.fit import EpochResult, FitResult, fit
from nas.train.recipe import Recipe
from nas.train.recipe_pages import RecipePage, bundled_recipes, find_recipe, load_recipe
from nas.train.seeding import derive_seed, seed_everything
from nas.train.split import Split

__all__ = ["Augmentation", "Dataset", "EpochResult", "FitResult", "Recipe", "RecipePage", "Split",
           "bundled_recipes", "derive_seed", "evaluate", "find_recipe", "fit", "load_data", "load_recipe",
           "seed_everything"]  # fmt: skip
