"""How a network is trained: one frozen, YAML-plain :class:`Recipe`. The bundled ones: :mod:`nas.train.recipe_pages`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch

from nas.errors import TrainError, nearest
from nas.train.augment import Augmentation

CHOICES = {
    "optimizer": ("sgd", "adamw", "rmsprop"),
    "schedule": ("cosine", "linear", "exponential", "constant"),
    "amp": ("float32", "bfloat16", "auto"),
}

EXPONENTIAL_END = 0.97 ** (350 / 2.4)
"""Where the exponential schedule ends, relative to its peak: .97 every 2.4 of 350 epochs (Tan & Le 2019), for any length."""

SIZE_STEP = 4
"""Progressive images have sides in multiples of this: two halvings leave whole pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training recipe. Raises TrainError, naming the field, for a value of the wrong type or out of range.

    - ``epochs``, ``batch_size`` (2 or more, for batch norm; over all devices together)
    - ``optimizer`` sgd (``momentum``, ``nesterov``), rmsprop (``momentum``) or adamw; ``weight_decay`` acts on weights of
      two or more dimensions, so not on biases and norms; ``grad_clip`` is the largest gradient norm, 0 for no limit
    - ``learning_rate`` is the peak, reached linearly over ``warmup_epochs`` (may be a fraction) and then brought to 0
      by the ``schedule`` cosine or linear, to :data:`EXPONENTIAL_END` of it (exponential), or kept (constant); it changes
      every step
    - ``label_smoothing`` 0..1; ``aux_weight``: share of the loss of an auxiliary head, the network's own where it returns
      (logits, auxiliary logits) while training, else one that is there for the training only (:mod:`nas.train.auxiliary`)
    - ``drop_path``: probability reached in the last epoch, linearly from 0 (Liu et al. 2019), with ``stages`` that of all
      epochs (Tan & Le 2021), on the operations of cells and on residual branches (:mod:`nas.train.regularise`); 0 leaves
      the network's own
    - ``crop_padding``, ``flip``: None takes what suits the data set; ``resized_crop``: least share of the area of a random
      crop of any shape that is scaled back (0.08 on ImageNet), 0 for none; ``cutout`` is a side in
      pixels, at most half of the image's, 0 for none
    - ``mixup``: alpha of Zhang et al. 2018 (two images mixed at Beta(alpha, alpha)), 0 for none
    - ``stages``: progressive training (Tan & Le 2021): from stage to stage images grow linearly from ``first_size`` of
      their side to the whole, and mixup and the network's dropout from ``first_strength`` of their values to the whole;
      within a stage all stay
    - ``amp``: float32, bfloat16 autocast, or auto: bfloat16 on a GPU that has it; ``channels_last``: memory format of
      weights and images
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
    resized_crop: float = 0.0
    cutout: int = 0
    mixup: float = 0.0
    stages: int = 1
    first_size: float = 1.0
    first_strength: float = 1.0
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

    def on(self, device: torch.device | str) -> Recipe:
        """This recipe with ``amp: auto`` settled for a device."""
        if self.amp != "auto":
            return self
        fast = torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return replace(self, amp="bfloat16" if fast else "float32")

    def lasting(self, epochs: int) -> Recipe:
        """The same recipe in another number of epochs; the warm-up takes no more than a fifth of them."""
        return replace(self, epochs=epochs, warmup_epochs=min(self.warmup_epochs, epochs / 5), stages=min(self.stages, epochs))

    def batched(self, batch_size: int) -> Recipe:
        """The same recipe with another batch size; the learning rate is in proportion (Goyal et al. 2017)."""
        return replace(self, batch_size=batch_size, learning_rate=self.learning_rate * batch_size / self.batch_size)

    def augmentation(self, default: Augmentation, epoch: int = 0, side: int | None = None) -> Augmentation:
        """What is done in an epoch to images of ``side`` pixels: this recipe's words, the data set's own where it has none."""
        size = None if side is None else self.side_at(epoch, side)
        cutout = self.cutout if side is None else min(self.cutout, side // 2)
        return Augmentation(
            crop_padding=default.crop_padding if self.crop_padding is None else self.crop_padding,
            flip=default.flip if self.flip is None else self.flip,
            resized_crop=self.resized_crop, cutout=cutout, size=None if size == side else size,
        )  # fmt: skip

    def progress_at(self, epoch: int) -> float:
        """How far the stages have come in an epoch: 0 in the first, 1 in the last; 1 without stages."""
        return 1.0 if self.stages == 1 else (epoch * self.stages // self.epochs) / (self.stages - 1)

    def strength_at(self, epoch: int) -> float:
        """The share of mixup and dropout that acts in an epoch."""
        return self.first_strength + (1.0 - self.first_strength) * self.progress_at(epoch)

    def side_at(self, epoch: int, side: int) -> int:
        """The side of the images of an epoch, in pixels: multiples of :data:`SIZE_STEP`, and ``side`` at last."""
        share = self.first_size + (1.0 - self.first_size) * self.progress_at(epoch)
        return side if share >= 1.0 else min(side, max(SIZE_STEP, round(side * share / SIZE_STEP) * SIZE_STEP))

    def drop_path_at(self, epoch: int) -> float:
        """The probability of an epoch: where there are stages always the same, else growing linearly from 0."""
        return self.drop_path * (1.0 if self.stages > 1 else epoch / max(self.epochs - 1, 1))

    def learning_rate_at(self, epoch: float) -> float:
        """The learning rate after ``epoch`` epochs (a fraction inside an epoch)."""
        if epoch < self.warmup_epochs:
            return self.learning_rate * epoch / self.warmup_epochs
        if self.schedule == "constant":
            return self.learning_rate
        done = (epoch - self.warmup_epochs) / max(self.epochs - self.warmup_epochs, 1e-9)
        if self.schedule == "linear":
            return self.learning_rate * (1.0 - done)
        if self.schedule == "exponential":
            return self.learning_rate * math.pow(EXPONENTIAL_END, done)
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


_BOUNDS: dict[str, tuple[float, float]] = {
    "epochs": (1, math.inf), "batch_size": (2, math.inf), "learning_rate": (0, math.inf), "momentum": (0, 1),
    "weight_decay": (0, math.inf), "warmup_epochs": (0, math.inf), "label_smoothing": (0, 1),
    "grad_clip": (0, math.inf), "aux_weight": (0, math.inf), "drop_path": (0, 1),
    "crop_padding": (0, math.inf), "cutout": (0, math.inf), "ema": (0, 1),
    "resized_crop": (0, 1), "mixup": (0, math.inf), "stages": (1, math.inf), "first_size": (0, 1), "first_strength": (0, 1),
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

