"""RMSProp as the published learning rates of NASNet, MnasNet and EfficientNet mean it: TensorFlow 1's, not torch's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

DECAY, EPS = 0.9, 1e-3
"""d and eps of :class:`RMSProp`."""


class RMSProp(torch.optim.Optimizer):
    """v = d v + (1 - d) g^2, m = momentum m + lr g / sqrt(v + eps), w = w - m; weight decay is added to g.

    Three things differ from ``torch.optim.RMSprop``, and a peak of 0.256 is made for them: ``eps`` stands under the root, so
    a gradient far below sqrt(eps) is scaled by about 32 and not by 1,000; v begins at 1, not at 0; and the learning rate of
    a step is kept in its momentum.
    """

    def __init__(self, params: Iterable[dict[str, Any]], lr: float, *, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of all weights that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step(group, [p for p in group["params"] if p.grad is not None])
        return loss

    def _step(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        if not weights:
            return
        gradients = [p.grad for p in weights if p.grad is not None]
        for weight in weights:
            if not self.state[weight]:
                self.state[weight].update(square=torch.ones_like(weight), moved=torch.zeros_like(weight))
        squares, moved = ([self.state[p][key] for p in weights] for key in ("square", "moved"))
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        torch._foreach_mul_(squares, DECAY)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1.0 - DECAY)
        roots = torch._foreach_add(squares, EPS)
        torch._foreach_sqrt_(roots)
        torch._foreach_mul_(moved, group["momentum"])
        torch._foreach_addcdiv_(moved, gradients, roots, value=group["lr"])
        torch._foreach_sub_(weights, moved)
