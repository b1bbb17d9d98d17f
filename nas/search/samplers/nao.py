"""Neural architecture optimisation: Luo et al. 2018, arXiv:1808.07233.

As published: an encoder maps an architecture to a vector, a predictor the vector to its worth, a decoder the vector back.
600 random architectures are trained; then, two or three times, encoder, predictor and decoder are trained on all results, the
embeddings of the 100 best are moved up the predictor's slope in steps of growing size, and 300 new architectures that the
decoder makes of them are trained. What differs:

- encoder and decoder are feed-forward over all decisions of the page (one hidden layer of 96, embeddings of 32), not LSTMs:
  decisions have fixed places here, and an LSTM over fifty of them is not trained within the second that a proposal may take.
  Embeddings have length 1, the loss is 0.8 of the prediction's squared error and 0.2 of the reconstruction's cross-entropy, the
  predictor is linear with a sigmoid, as published; 150 steps of 100 trials with Adam at 0.01 instead of 1,000 epochs at 0.001;
- the slope is taken with length 1, and steps are 0.1, 0.2, ... long, until there are three times as many new architectures as a
  round tries; of these the best predicted come first. Where the slope leads nowhere new any more (a small space, a round that
  agrees with the last), labels are drawn from the decoder's softmax, hotter and hotter, instead of the likeliest taken;
- equal spellings (a block's inputs swapped) are not added to the data: the search knows duplicates by their graph;
- asynchronous: no round waits for its last trials, they are learnt from in the next; the search goes on in rounds;
- what is learnt is the objective scaled from 0 to 1; with several, the share of the trials that are worse, by non-dominated
  rank and crowding; trials that break a limit are worse than all others.
"""

from __future__ import annotations

import math
import random

import numpy as np
from optuna import Study
from optuna.trial import FrozenTrial

from nas.errors import UsageError
from nas.search.samplers.past import Key, key_of
from nas.search.samplers.ranking import merits
from nas.search.samplers.rounds import RoundSampler
from nas.space.decide import Decisions
from nas.space.search_space import SearchSpace
from nas.space.spec import Scalar

STEP, LONGEST, HOTTEST = 0.1, 30, 30
"""The unit of a move along the slope, of how many the longest is, and the highest temperature at which labels are drawn."""

SPARE = 3
"""So many times as many candidates are made as a round tries."""


class NAOSampler(RoundSampler):
    """``first`` random trials, then rounds of ``each``; the ``best`` are moved. ``steps`` of training a round.

    Raises UsageError for sizes that cannot be.
    """

    def __init__(
        self, space: SearchSpace, *, seed: int | None = None, first: int = 600, each: int = 300, best: int = 100,
        steps: int = 150,
    ) -> None:  # fmt: skip
        super().__init__(space, seed=seed, first=first, each=each)
        if best < 1 or steps < 1:
            raise UsageError("some have to be moved, and a model has to learn", expected="best and steps of 1 or more",
                             got=f"{best=}, {steps=}")  # fmt: skip
        self.best, self.steps = best, steps

    def candidates(self, study: Study, number: int, learnt: list[FrozenTrial], rng: random.Random) -> list[Decisions]:
        from nas.search.samplers.autoencoder import Autoencoder
        from nas.search.samplers.controller import one_thread

        worth = merits(learnt, study.directions)
        known = [self.whole(trial) for trial in learnt]
        rows = self.tokens.rows(known)
        if not rows.size:
            return []
        seeds = np.argsort(-worth, kind="stable")[: self.best]
        taken = {key_of(decisions) for decisions in known}
        found: dict[Key, Decisions] = {}
        decoded: set[tuple[int, tuple[int, ...]]] = set()
        with one_thread():
            model = Autoencoder(self.tokens, rng.getrandbits(62))
            model.fit(rows, (worth - worth.min()) / (np.ptp(worth) or 1.0), self.steps)
            for step, heat in [*((step, 0) for step in range(1, LONGEST + 1)), *((1, heat) for heat in range(1, HOTTEST + 1))]:
                if len(found) >= SPARE * self.each:
                    break
                for logits, i in zip(model.climb(rows[seeds], STEP * step), seeds, strict=True):
                    places = self._places(logits, heat, rng)
                    if (i, places) in decoded:
                        continue
                    decoded.add((i, places))
                    decisions = self._decisions(places, known[i], rng)
                    if (key := key_of(decisions)) not in taken:
                        found.setdefault(key, decisions)
            made = list(found.values())
            predicted = model.worth(self.tokens.rows(made)) if made else np.empty(0)
        return [made[i] for i in np.argsort(-predicted, kind="stable")]

    def _places(self, logits: np.ndarray, heat: float, rng: random.Random) -> tuple[int, ...]:
        """The likeliest token of every decision, or with heat one drawn from the softmax at that temperature."""
        if heat:
            logits = logits / heat - np.log([-math.log(rng.random() or 0.5) for _ in logits])  # Gumbel: the largest is a draw
        ends = zip(self.tokens.starts, self.tokens.counts, strict=True)
        return tuple([int(logits[start : start + count].argmax()) for start, count in ends])

    def _decisions(self, places: tuple[int, ...], seed: Decisions, rng: random.Random) -> Decisions:
        """The decisions of these tokens; in a part of a range the seed's own label, where it is in that part."""

        def label(key: str, place: int) -> Scalar:
            same = key in seed and self.tokens.token(key, seed[key]).place == place
            return seed[key] if same else self.tokens.label(key, place, rng)

        drawn = {key: label(key, places[slot]) for key, slot in self.tokens.slots.items()}
        only = {key: self.tokens.label(key, 0, rng) for key in self.space.holes if key not in drawn}
        return self.tokens.whole({**drawn, **only}, rng)
