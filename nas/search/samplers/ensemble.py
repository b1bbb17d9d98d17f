"""An ensemble of small networks that predict how good an architecture is, all trained at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MEMBERS, EMBEDDING, HIDDEN = 5, 32, 100
BATCH, RATE = 64, 0.01
BIAS = 1.8
"""Of the output, before its sigmoid: accuracies are nearer to 1 than to 0."""


class Ensemble:
    """``columns``: the columns of the input that belong to each stage. Member i does not see every fifth example from i on.

    A stage's tokens are embedded and averaged, the stages' embeddings joined and led through a hidden layer to a sigmoid.
    """

    def __init__(self, columns: Sequence[Sequence[int]], seed: int) -> None:
        self.columns = [torch.tensor(own, dtype=torch.long) for own in columns]
        self._draws = torch.Generator().manual_seed(seed)
        width = EMBEDDING * len(columns)
        self.embeddings = [self._uniform(0.1, MEMBERS, len(own), EMBEDDING) for own in columns]
        self.hidden = self._uniform((6 / (width + HIDDEN)) ** 0.5, MEMBERS, width, HIDDEN)
        self.shift = torch.zeros(MEMBERS, 1, HIDDEN, requires_grad=True)
        self.out = self._uniform((6 / (HIDDEN + 1)) ** 0.5, MEMBERS, HIDDEN, 1)
        self.bias = torch.full((MEMBERS, 1, 1), BIAS, requires_grad=True)

    def _uniform(self, most: float, *shape: int) -> Tensor:
        return ((2 * torch.rand(shape, generator=self._draws) - 1) * most).requires_grad_()

    def __call__(self, rows: Tensor) -> Tensor:
        """Predictions, members x rows, from 0 to 1."""
        parts = []
        for own, embedding in zip(self.columns, self.embeddings, strict=True):
            part = rows[:, own]
            parts.append((part / part.sum(1, keepdim=True).clamp(min=1)) @ embedding)
        hidden = torch.relu(torch.cat(parts, dim=2) @ self.hidden + self.shift)
        return torch.sigmoid(hidden @ self.out + self.bias)[..., 0]

    def fit(self, rows: np.ndarray, targets: np.ndarray, steps: int) -> None:
        """Learn targets from 0 to 1 by their absolute error."""
        inputs, wanted = torch.from_numpy(rows), torch.tensor(targets, dtype=torch.float32)
        seen = (torch.arange(len(rows)) % MEMBERS != torch.arange(MEMBERS)[:, None]).float()
        weights = [*self.embeddings, self.hidden, self.shift, self.out, self.bias]
        optimizer = torch.optim.Adam(weights, lr=RATE)
        decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
        for _ in range(steps):
            chosen = torch.randint(len(rows), (min(BATCH, len(rows)),), generator=self._draws)
            loss = ((self(inputs[chosen]) - wanted[chosen]).abs() * seen[:, chosen]).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            decay.step()

    @torch.no_grad()
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """The mean of the members for every row."""
        mean: np.ndarray = self(torch.from_numpy(rows)).mean(0).numpy()
        return mean
