"""How a network is trained: one frozen, YAML-plain :class:`Recipe`, and the named ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from nas.errors import TrainError, nearest
from nas.train.augment import Augmentation

CHOICES = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("cosine", "linear", "constant"),
    "amp": ("float32", "bfloat16"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training recipe. Raises TrainError, naming the field, for a value of the wrong type or out of range.

    - ``epochs``, ``batch_size`` (2 or more, for batch norm)
    - ``optimizer`` sgd (``momentum``, ``nesterov``) or adamw; ``weight_decay`` acts on weights of two or more
      dimensions, so not on biases and norms; ``grad_clip`` is the largest gradient norm, 0 for no limit
    - ``learning_rate`` is the peak, reached linearly over ``warmup_epochs`` (may be a fraction) and then brought to 0
      by the ``schedule`` cosine or linear, or kept (constant); it changes every step
    - ``label_smoothing`` 0..1; ``aux_weight``: share of the loss of an auxiliary head, for networks that return
      (logits, auxiliary logits) while training
    - ``drop_path``: probability reached in the last epoch, linearly from 0 (Liu et al. 2019); set as the attribute
      ``drop_path`` of every module that has one, and without effect on other networks
    - ``crop_padding``, ``flip``: None takes what suits the data set; ``cutout`` is a side in pixels, 0 for none
    - ``amp``: float32, or bfloat16 autocast; ``channels_last``: memory format of weights and images
    - ``ema``: decay a step of an exponential average of the weights, which is then validated and kept; None for none
    """

    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    grad_clip: float = 0.0
    aux_weight: float = 0.0
    drop_path: float = 0.0
    crop_padding: int | None = None
    flip: bool | None = None
    cutout: int = 0
    amp: str = "float32"
    channels_last: bool = True
    ema: float | None = None

    def __post_init__(self) -> None:
        for spec in fields(self):
            _check_type(spec.name, str(spec.type), getattr(self, spec.name))
        for name, known in CHOICES.items():
            if (value := getattr(self, name)) not in known:
                raise TrainError(f"unknown {name}", where=f"recipe.{name}", expected=" or ".join(known), got=value,
                                 hint=nearest(value, known))  # fmt: skip
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                limits = f"{low:g} or more" if high == math.inf else f"{low:g}..{high:g}"
                raise TrainError("value out of range", where=f"recipe.{name}", expected=limits, got=value)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, base: Recipe | None = None) -> Recipe:
        """The recipe that a mapping writes, over ``base`` (default: all defaults). TrainError for an unknown key."""
        known = [spec.name for spec in fields(cls)]
        for key in mapping:
            if key not in known:
                raise TrainError("unknown key", where="recipe", expected="one of " + ", ".join(known), got=str(key),
                                 hint=nearest(str(key), known))  # fmt: skip
        floats = {spec.name for spec in fields(cls) if "float" in str(spec.type)}
        plain: dict[str, Any] = {
            key: float(value) if key in floats and type(value) is int else value for key, value in mapping.items()
        }
        return replace(base or cls(), **plain)

    def to_mapping(self) -> dict[str, int | float | str | bool | None]:
        """All fields as plain values; ``from_mapping`` is its inverse."""
        return asdict(self)

    def augmentation(self, default: Augmentation) -> Augmentation:
        """What is done to the images: this recipe's words, and the data set's own where it has none."""
        return Augmentation(
            crop_padding=default.crop_padding if self.crop_padding is None else self.crop_padding,
            flip=default.flip if self.flip is None else self.flip,
            cutout=self.cutout,
        )

    def learning_rate_at(self, epoch: float) -> float:
        """The learning rate after ``epoch`` epochs (a fraction inside an epoch)."""
        if epoch < self.warmup_epochs:
            return self.learning_rate * epoch / self.warmup_epochs
        if self.schedule == "constant":
            return self.learning_rate
        done = (epoch - self.warmup_epochs) / max(self.epochs - self.warmup_epochs, 1e-9)
        if self.schedule == "linear":
            return self.learning_rate * (1.0 - done)
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


_BOUNDS: dict[str, tuple[float, float]] = {
    "epochs": (1, math.inf), "batch_size": (2, math.inf), "learning_rate": (0, math.inf), "momentum": (0, 1),
    "weight_decay": (0, math.inf), "warmup_epochs": (0, math.inf), "label_smoothing": (0, 1),
    "grad_clip": (0, math.inf), "aux_weight": (0, math.inf), "drop_path": (0, 1),
    "crop_padding": (0, math.inf), "cutout": (0, math.inf), "ema": (0, 1),
}  # fmt: skip

_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (float, int), "bool": (bool,), "str": (str,)}


def _check_type(name: str, annotation: str, value: object) -> None:
    """bool is not a number here, though it is an int to Python."""
    kind, _, optional = annotation.partition(" | ")
    if optional and value is None:
        return
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "bool"):
        hint = "YAML reads 1e-3 as text; write 1.0e-3." if kind == "float" and isinstance(value, str) else None
        raise TrainError("value of the wrong type", where=f"recipe.{name}", expected=annotation, got=value, hint=hint)


RECIPES: dict[str, Recipe] = {
    "quick": Recipe(epochs=8, warmup_epochs=1.0),
    # Liu et al. 2019, DARTS, section 3.2 (their weights decay everywhere, also in norms)
    "cifar": Recipe(epochs=600, batch_size=96, learning_rate=0.025, nesterov=False, weight_decay=3e-4, grad_clip=5.0,
                    aux_weight=0.4, drop_path=0.2, cutout=16),
}  # fmt: skip
"""Recipes by name: ``quick`` compares candidates, ``cifar`` trains a found cell to the end."""


def find_recipe(name: str) -> Recipe:
    """The recipe of that name. Raises TrainError naming the nearest known one."""
    if (recipe := RECIPES.get(name)) is None:
        raise TrainError("unknown recipe", expected=" or ".join(RECIPES), got=name, hint=nearest(name, RECIPES))
    return recipe
