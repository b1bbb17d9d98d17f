"""An encoder of architectures, a predictor on what it gives, and a decoder back: an embedding in which one can climb."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.search.samplers.tokens import Tokens

HIDDEN, EMBEDDING = 96, 32
BATCH, RATE = 100, 0.01
TRADE_OFF = 0.8
"""Weight of the prediction's error; the rest is the reconstruction's."""


class Autoencoder(nn.Module):
    """Rows of tokens to unit vectors and back, and the prediction from those: one linear layer and a sigmoid."""

    def __init__(self, tokens: Tokens, seed: int) -> None:
        super().__init__()
        self._draws = torch.Generator().manual_seed(seed)
        with torch.device("meta"):  # the modules would draw initial weights from torch's global generator
            self.encoder = nn.Sequential(nn.Linear(tokens.total, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, EMBEDDING))
            self.predictor = nn.Linear(EMBEDDING, 1)
            self.decoder = nn.Sequential(nn.Linear(EMBEDDING, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, tokens.total))
        self.to_empty(device="cpu")
        with torch.no_grad():
            for weights in self.parameters():
                bound = (3 / weights.shape[-1]) ** 0.5 if weights.ndim > 1 else 0.0
                weights.uniform_(-bound, bound, generator=self._draws)
        sizes = torch.tensor(tokens.counts)
        self._slot = torch.arange(len(sizes)).repeat_interleave(sizes)
        self._slots = len(sizes)

    def encode(self, rows: Tensor) -> Tensor:
        """Embeddings of length 1: rows x EMBEDDING."""
        return functional.normalize(self.encoder(rows), dim=1)

    def predict(self, embeddings: Tensor) -> Tensor:
        """From 0 to 1, one an embedding."""
        return torch.sigmoid(self.predictor(embeddings))[:, 0]

    def fit(self, rows: np.ndarray, targets: np.ndarray, steps: int) -> None:
        """Learn targets from 0 to 1 and the rows themselves."""
        inputs, wanted = torch.from_numpy(rows), torch.tensor(targets, dtype=torch.float32)
        optimizer = torch.optim.Adam(self.parameters(), lr=RATE, weight_decay=1e-4)
        decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
        for _ in range(steps):
            chosen = torch.randint(len(rows), (min(BATCH, len(rows)),), generator=self._draws)
            embeddings = self.encode(inputs[chosen])
            error = ((self.predict(embeddings) - wanted[chosen]) ** 2).mean()
            lost = -(self._logs(self.decoder(embeddings)) * inputs[chosen]).sum() / inputs[chosen].sum().clamp(min=1)
            optimizer.zero_grad()
            loss: Tensor = TRADE_OFF * error + (1 - TRADE_OFF) * lost
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.parameters(), 5.0)
            optimizer.step()
            decay.step()

    def _logs(self, logits: Tensor) -> Tensor:
        """Log-probabilities: a softmax over the tokens of every slot."""
        index = self._slot.expand_as(logits)
        most = torch.full((len(logits), self._slots), -torch.inf).scatter_reduce(1, index, logits.detach(), "amax")
        shifted = logits - most.gather(1, index)
        total = torch.zeros(len(logits), self._slots).scatter_add(1, index, shifted.exp())
        return shifted - total.log().gather(1, index)

    def climb(self, rows: np.ndarray, steps: float) -> np.ndarray:
        """What the decoder makes of embeddings that were moved so far up the prediction's slope: logits, rows x total."""
        with torch.no_grad():
            start = self.encode(torch.from_numpy(rows))
        start.requires_grad_()
        [slope] = torch.autograd.grad(self.predict(start).sum(), start)
        with torch.no_grad():
            moved: np.ndarray = self.decoder(start + steps * functional.normalize(slope, dim=1)).numpy()
        return moved

    @torch.no_grad()
    def worth(self, rows: np.ndarray) -> np.ndarray:
        """The predictions for rows of tokens."""
        found: np.ndarray = self.predict(self.encode(torch.from_numpy(rows))).numpy()
        return found
