"""A recurrent controller rewarded for what it proposes: Zoph et al. 2018, Learning Transferable Architectures for Scalable
Image Recognition, arXiv:1707.07012 (``rl``: proximal policy optimisation), and Zoph & Le 2017, Neural Architecture Search with
Reinforcement Learning, arXiv:1611.01578 (``reinforce``: REINFORCE with a baseline).

As published: an LSTM draws the decisions one by one, each label read back as the next input, with a softmax for every
decision; after every minibatch of trained architectures it is made likelier to draw what was better than the moving average
of rewards. ``rl`` has one layer of 100 units, weights from U(-0.1, 0.1), Adam at 0.00035, entropy weight 0.00001, average 0.95,
minibatches of 20; ``reinforce`` two layers of 35, U(-0.08, 0.08), Adam at 0.0006, minibatches of 8. What differs:

- the reward is the objective itself; the older paper's cube of the accuracy is ``objectives=accuracy^3``, MnasNet's
  ``accuracy*(latency/3ms)^-0.07``. With several objectives it is the share of the last 200 trials that are worse (by
  non-dominated rank, then crowding). Trials that break a limit are worse than all that do not; failed ones are not learnt from;
- the clip (0.2) and the passes over a minibatch (4) of PPO are not stated; these are usual ones;
- the search runs asynchronously: minibatches are made of trials as they end, and what the controller was when it wrote a
  trial is taken to be what it is when it learns from it;
- the published searches train 12,800 to 20,000 networks; for a few hundred the rate has to be larger and minibatches smaller;
- what was tried is written again, up to 20 times: a controller that has made up its mind would try the same for ever;
- depth does not grow while the search goes on (``reinforce``): it is a decision of the page, or none;
- a range of many values is cut into 16 parts, and a value drawn from the part that is chosen.

The controller is not stored. It follows from the seed and the trials in the order they ended: a process that joins learns
from all of them once (a few seconds for 1,000 trials), and then keeps up. Processes on one study have the same seed.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from optuna import Study
from optuna.trial import FrozenTrial

from nas.errors import UsageError
from nas.search.samplers.base import SpaceSampler
from nas.search.samplers.past import Keys, before, completed, key_of, same
from nas.search.samplers.ranking import merits
from nas.search.samplers.tokens import Tokens
from nas.space.decide import Decisions
from nas.space.search_space import SearchSpace

if TYPE_CHECKING:
    from nas.search.samplers.controller import Learner, Update

WINDOW = 200
"""Trials among which the reward of one is found, where it is relative."""

REDRAWS = 20
"""Times that the controller may write to find something new."""


class RLSampler(SpaceSampler):
    """``lr``, ``entropy``, ``decay`` of the baseline, ``batch``, ``hidden``, ``layers``, ``init``: see the module.

    ``epochs`` and ``clip`` are PPO's. Raises UsageError for sizes that cannot be.
    """

    update: Update = "ppo"

    def __init__(
        self, space: SearchSpace, *, seed: int | None = None, lr: float = 0.00035, batch: int = 20, entropy: float = 0.00001,
        decay: float = 0.95, hidden: int = 100, layers: int = 1, init: float = 0.1, epochs: int = 4, clip: float = 0.2,
    ) -> None:  # fmt: skip
        super().__init__(space, seed=seed)
        if min(batch, hidden, layers, epochs) < 1 or lr <= 0 or not 0 <= decay < 1:
            raise UsageError("a controller cannot learn so", got=f"{batch=}, {hidden=}, {layers=}, {epochs=}, {lr=}, {decay=}",
                             expected="sizes of 1 or more, a rate above 0, a decay from 0 to below 1")  # fmt: skip
        self.batch, self._net = batch, {"hidden": hidden, "layers": layers}
        self._init = init
        self._how = {"lr": lr, "entropy": entropy, "decay": decay, "clip": clip}
        self._epochs = epochs
        self._tokens = Tokens(space)
        self._keys = Keys(self.flat)
        # Only saves time: the learner, and the trials that it has learnt from.
        self._learner: Learner | None = None
        self._learnt: list[FrozenTrial] = []

    def propose(self, study: Study, trial: FrozenTrial, rng: random.Random) -> Decisions:
        from nas.search.samplers.controller import one_thread

        with one_thread():
            past = before(study, trial)
            controller = self._follow(study, completed(past)).controller
            taken = set(map(self._keys, past))
            for _ in range(REDRAWS):
                decisions = controller.write(rng)
                if key_of(decisions) not in taken:
                    break
            return decisions

    def _follow(self, study: Study, done: list[FrozenTrial]) -> Learner:
        """The learner after all whole minibatches of these trials."""
        if self._learner is None or not all(map(same, self._learnt, done)) or len(self._learnt) > len(done):
            self._learner, self._learnt = self._begin(), []
        while len(done) - len(self._learnt) >= self.batch:
            start = len(self._learnt)
            end = start + self.batch
            window = done[max(0, end - max(WINDOW, self.batch)) : end]
            rewards = merits(window, study.directions)[-self.batch :].tolist()
            sequences = [self._tokens.sequence(self.decisions(t), random.Random(t.number)) for t in done[start:end]]
            self._learner.learn(sequences, rewards)
            self._learnt = done[:end]
        return self._learner

    def _begin(self) -> Learner:
        from nas.search.samplers.controller import Controller, Learner

        controller = Controller(self._tokens, seed=self.seed, init=self._init, **self._net)
        return Learner(controller, update=self.update, epochs=self._epochs, **self._how)


class ReinforceSampler(RLSampler):
    """The settings of the first paper; see the module."""

    update: Update = "reinforce"

    def __init__(
        self, space: SearchSpace, *, seed: int | None = None, lr: float = 0.0006, batch: int = 8, entropy: float = 0.0,
        decay: float = 0.95, hidden: int = 35, layers: int = 2, init: float = 0.08,
    ) -> None:  # fmt: skip
        super().__init__(space, seed=seed, lr=lr, batch=batch, entropy=entropy, decay=decay, hidden=hidden, layers=layers,
                         init=init)  # fmt: skip
