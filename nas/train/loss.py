"""The loss that is trained on: cross-entropy, smoothed, mixed with the labels, with an auxiliary head's beside it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from nas.train.evaluate import main_logits
from nas.train.recipe import Recipe


def training_loss(outputs: object, labels: Tensor, share: float, recipe: Recipe, num_classes: int) -> Tensor:
    """The mean loss of a batch; of images that ``mix_up`` has mixed by ``share``, the labels' losses are mixed alike.

    ``outputs`` are logits (N, num_classes), or (logits, auxiliary logits). Raises TrainError for anything else.
    """
    loss = _cross_entropy(main_logits(outputs, num_classes), labels, share, recipe)
    if recipe.aux_weight and isinstance(outputs, tuple | list):
        for aux in outputs[1:]:
            loss = loss + recipe.aux_weight * _cross_entropy(aux, labels, share, recipe)
    return loss


def _cross_entropy(logits: Tensor, labels: Tensor, share: float, recipe: Recipe) -> Tensor:
    loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    if share == 1.0:
        return loss
    other = F.cross_entropy(logits, labels.roll(1, 0), label_smoothing=recipe.label_smoothing)
    return share * loss + (1.0 - share) * other
