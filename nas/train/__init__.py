"""Training a network on a data set. Knows torch, not search spaces."""

from nas.train.augment import Augmentation
from nas.train.data import Dataset, load_data
from nas.train.evaluate import evaluate
from nas.train.fit import EpochResult, FitResult, StopTraining, fit
from nas.train.recipe import RECIPES, Recipe, find_recipe
from nas.train.seeding import derive_seed, seed_everything
from nas.train.split import Split

__all__ = ["RECIPES", "Augmentation", "Dataset", "EpochResult", "FitResult", "Recipe", "Split", "StopTraining",
           "derive_seed", "evaluate", "find_recipe", "fit", "load_data", "seed_everything"]  # fmt: skip
