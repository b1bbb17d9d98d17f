"""What changes the weights: the optimizer, and the moving average that follows them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from nas.errors import TrainError
from nas.train.recipe import Recipe
from nas.train.rmsprop import RMSProp


class Average:
    """An exponential moving average of weights and running statistics, quick to follow in the first steps."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay, self.updates = decay, 0
        # The tensors stay the same objects while a network is trained: both are filled in place.
        pairs = list(zip(self.model.state_dict().values(), model.state_dict().values(), strict=True))
        self.floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self.others = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the model: decay min(decay, (1 + n) / (10 + n)) at update n, integers are copied."""
        weight = 1.0 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        torch._foreach_lerp_([own for own, _ in self.floats], [new for _, new in self.floats], weight)
        for own, new in self.others:
            own.copy_(new)

    def state(self) -> dict[str, Any]:
        """The average, for a checkpoint."""
        return {"model": self.model.state_dict(), "updates": self.updates}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(state["model"])
        self.updates = state["updates"]


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over all trainable weights; only those of two or more dimensions decay.

    Fused kernels where the device has them: 8 times less time a step than torch's default for 350 small tensors on a
    CPU (0.4 against 3.5 ms, SGD, one Zen 5 core, torch 2.13).
    """
    weights = [p for p in model.parameters() if p.requires_grad]
    if not weights:
        raise TrainError("the network has no trainable weights")
    groups = [{"params": [p for p in weights if p.ndim > 1], "weight_decay": recipe.weight_decay},
              {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0}]  # fmt: skip
    fused = weights[0].device.type in ("cpu", "cuda")
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=fused)
    if recipe.optimizer == "rmsprop":
        return RMSProp(groups, recipe.learning_rate, momentum=recipe.momentum)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum,
                           nesterov=recipe.nesterov and recipe.momentum > 0, fused=fused)  # fmt: skip
