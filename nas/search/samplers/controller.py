"""A recurrent network that writes architectures decision by decision, and how it is rewarded."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Literal

import torch
from torch import Tensor, nn

from nas.search.samplers.tokens import Token, Tokens
from nas.space.decide import Decisions
from nas.space.spec import Hole, Scalar

Update = Literal["ppo", "reinforce"]


_ALONE = Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch with one thread, in which small networks are fastest and sums come in one order; one caller at a time."""
    with _ALONE:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


class Controller(nn.Module):
    """An LSTM that reads the last decision's label and has a softmax for every decision. Weights are U(-init, init)."""

    def __init__(self, tokens: Tokens, *, hidden: int, layers: int, init: float, seed: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.starts, total = tokens.starts, tokens.total
        with torch.device("meta"):  # the modules would draw initial weights from torch's global generator
            self.embedding = nn.Embedding(total + 1, hidden)  # the last row is the beginning
            self.lstm = nn.LSTM(hidden, hidden, num_layers=layers, batch_first=True)
            self.head = nn.Linear(hidden, total)
        self.to_empty(device="cpu")
        draws = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weights in self.parameters():
                weights.uniform_(-init, init, generator=draws)

    @torch.no_grad()
    def write(self, rng: random.Random) -> Decisions:
        """The decisions of an architecture, each drawn from its softmax."""
        last, state = self.embedding.num_embeddings - 1, None

        def choose(key: str, hole: Hole) -> Scalar:
            nonlocal last, state
            if key not in self.tokens.slots:
                return self.tokens.label(key, 0, rng)  # its only one
            slot = self.tokens.slots[key]
            rows = slice(self.starts[slot], self.starts[slot] + self.tokens.counts[slot])
            out, state = self.lstm(self.embedding.weight[last].view(1, 1, -1), state)
            logits = self.head.weight[rows] @ out.view(-1) + self.head.bias[rows]
            index = rng.choices(range(self.tokens.counts[slot]), torch.softmax(logits, 0).tolist())[0]
            last = self.starts[slot] + index
            return self.tokens.label(key, index, rng)

        return self.tokens.space.decide(choose).decisions

    def forward(self, sequences: Sequence[Sequence[Token]]) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probability and entropy of every decision of these sequences, and which places hold one: each n x longest."""
        longest = max(map(len, sequences))
        widest = max(token.size for sequence in sequences for token in sequence)
        start = self.embedding.num_embeddings - 1
        inputs = torch.full((len(sequences), longest), start)
        first, index, count = (torch.zeros(len(sequences), longest, dtype=torch.long) for _ in range(3))
        for row, sequence in enumerate(sequences):
            begin = [self.starts[token.slot] for token in sequence]
            inputs[row, 1 : len(sequence)] = torch.tensor([b + t.place for b, t in zip(begin, sequence, strict=True)][:-1])
            first[row, : len(sequence)] = torch.tensor(begin)
            index[row, : len(sequence)] = torch.tensor([token.place for token in sequence])
            count[row, : len(sequence)] = torch.tensor([token.size for token in sequence])
        out, _ = self.lstm(self.embedding(inputs))
        columns = torch.arange(widest).expand(len(sequences), longest, widest)
        there = columns < count.clamp(min=1)[..., None]
        rows = torch.where(there, first[..., None] + columns, 0)
        logits = (self.head.weight[rows] * out[..., None, :]).sum(-1) + self.head.bias[rows]
        logs = logits.masked_fill(~there, -1e9).log_softmax(-1)
        entropy = -(logs.exp() * logs).masked_fill(~there, 0.0).sum(-1)
        return logs.gather(-1, index[..., None])[..., 0], entropy, count > 0


class Learner:
    """A controller, its optimiser and the moving average of rewards that is its baseline."""

    def __init__(
        self, controller: Controller, *, update: Update, lr: float, entropy: float, decay: float, epochs: int, clip: float
    ) -> None:
        self.controller, self.update, self.entropy = controller, update, entropy
        self.decay, self.epochs, self.clip = decay, epochs, clip
        self.optimizer = torch.optim.Adam(controller.parameters(), lr=lr)
        self.baseline: float | None = None

    def learn(self, sequences: Sequence[Sequence[Token]], rewards: Sequence[float]) -> None:
        """One minibatch: PPO's clipped steps from the policy as it is now, or one step of REINFORCE."""
        gains = torch.tensor(self._gains(rewards))[:, None]
        if not any(sequences):
            return
        steps = self.epochs if self.update == "ppo" else 1
        before: Tensor | None = None
        for _ in range(steps):
            logs, entropy, there = self.controller(sequences)
            if self.update == "ppo":
                before = logs.detach() if before is None else before
                ratio = (logs - before).exp()
                worth = torch.minimum(ratio * gains, ratio.clamp(1 - self.clip, 1 + self.clip) * gains)
            else:
                worth = logs * gains
            loss = -(worth + self.entropy * entropy)[there].sum() / len(sequences)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def _gains(self, rewards: Sequence[float]) -> list[float]:
        """How much better than the baseline each is; the baseline follows."""
        gains = []
        for reward in rewards:
            self.baseline = reward if self.baseline is None else self.baseline
            gains.append(reward - self.baseline)
            self.baseline = self.decay * self.baseline + (1 - self.decay) * reward
        return gains
