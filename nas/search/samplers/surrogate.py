"""A surrogate that learns from all trials which candidate is worth training next: our own strategy.

The scheme of BANANAS (White et al. 2021, arXiv:1910.11858) and NAS-BOWL (Ru et al. 2021, arXiv:2006.07556): fit a model to
the trials, score mutants of the best ones and random architectures, take the one with the greatest expected improvement.
What differs:

- the model is a Gaussian process on four views of the lowered graph at once (:mod:`.encoding`), each with a length scale
  of its own, on normal scores instead of values: it needs neither pretraining nor a tuned network;
- larger networks are believed to be the more accurate before anything is seen: the first trials are the largest of a few
  random ones, and the model has a trend in size (of use above all to many workers, who ask before any trial has ended);
- the best is what the model holds to be best: a lucky training does not mislead, and :meth:`SurrogateSampler.recommend`
  gives that one as the result;
- several objectives: expected growth of the hypervolume; a metric that is ``known`` without training is not modelled;
- a cost that only a measurement tells, such as latency beside accuracy, is modelled as what it is (:mod:`.beliefs`), with the
  measurements of all trials: those in flight, and those that were stopped or failed after it (``metrics`` or ``known`` among
  a trial's user attributes, a mapping, as :class:`nas.search.study.SearchStudy` stores it);
- trials in flight count as if they had come out as predicted, so that asking again for the next worker gives another one;
- an architecture that was tried is not proposed again, nor under another spelling (of those that the model has learnt from);
- one more model for failing and one for each limit say where not to look: the latter learn by how much a limit was broken
  or kept, also from trials that were stopped for it before any training.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

import numpy as np
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from nas.errors import UsageError
from nas.search.objectives import nondominated
from nas.search.samplers.base import SpaceSampler
from nas.search.samplers.beliefs import Beliefs, Limit, Point
from nas.search.samplers.encoding import MEMORY, Coded, Coder
from nas.search.samplers.gaussian_process import Array
from nas.search.samplers.past import informative, measured, slack
from nas.search.samplers.ranking import losses, order, violation
from nas.search.vary import redraw
from nas.space.decide import Decisions
from nas.space.plan import enumerate_decisions
from nas.space.search_space import Architecture, SearchSpace, draw

Known = Callable[[Architecture], Mapping[str, float]]

LISTED = 100_000
"""A space of fewer architectures is searched to its end for one that is new."""

TOURNAMENTS = (1, 2, 4, 8, 16)
"""Random architectures of which the first trials are the largest."""

CROWDED = 64
"""The same, of every further trial that many workers ask for while none has ended."""

PARENTS = 10
"""Best trials whose mutants are candidates."""

KEPT = 8
"""Proposals for which a parent's mutants stay candidates."""


class SurrogateSampler(SpaceSampler):
    """``startup`` random trials, then those of the greatest expected improvement among ``candidates``.

    ``known``: metrics of an architecture that need neither training nor a measurement (num_params, a table's latency), by
    the names that the study has for its objectives; asked for every candidate. ``history``: the model is fitted to at most
    so many trials, half of them the best and half the youngest; of what was not trained half as many are learnt from.
    ``coder``: one to share with others of this space.
    Raises UsageError for sizes that cannot be.
    """

    def __init__(
        self, space: SearchSpace, *, seed: int | None = None, known: Known | None = None, startup: int = 10,
        candidates: int = 128, history: int = 300, coder: Coder | None = None,
    ) -> None:  # fmt: skip
        super().__init__(space, seed=seed)
        if startup < 2 or candidates < 10 or history < 20:
            raise UsageError("a surrogate needs trials and candidates", got=f"{startup=}, {candidates=}, {history=}",
                             expected="startup of 2, candidates of 10, history of 20 or more")  # fmt: skip
        self.startup, self.candidates, self.cap = startup, candidates, history
        self._ask = known
        # These only save time: what is missing here is made again from the study.
        self._coder = coder or Coder(space)
        self._known: dict[Hashable, Mapping[str, float]] = {}
        self._fits: dict[Hashable, list[Array]] = {}
        self._free = [key for key, known in self.flat.items() if not known.single()]
        self._independent = bool(self._free) and not any(decision.below for decision in space.plan)

    # -- the strategy ------------------------------------------------------------------------------------------------

    def propose(self, study: Study, trial: FrozenTrial, rng: random.Random) -> Decisions:
        past = self._ours(study, but=trial.number)
        begun = sum(t.state != TrialState.FAIL for t in past)
        beliefs, trials = self._beliefs(study, informative(past)) if begun >= self.startup else (None, [])
        if beliefs is None or len(trials) < 2:
            return self._start(study, past, begun, rng)
        beliefs.learn_limits(self._limits(past), [violation(t) for t in trials])
        pending = [t for t in past if not t.state.is_finished()]
        taken = self._taken(past, [*trials, *pending])
        pool = self._pool([trials[i] for i in beliefs.best(PARENTS)], trial.number, taken)
        if not pool:
            return self._new(rng, taken)
        gain = beliefs.gain(self._points(pending), self._points(pool), np.random.default_rng(rng.getrandbits(64)))
        return pool[int(gain.argmax())].decisions

    def recommend(self, study: Study) -> list[int]:
        """Numbers of the trials to take: the one that the model holds to be the best; of several objectives, those on the
        front of what the model holds them for, or of what was seen. Those that break a limit least."""
        done = informative(self._ours(study))
        least = min((violation(t) for t in done), default=0.0)
        done = [t for t in done if violation(t) <= least]
        beliefs, trials = self._beliefs(study, done) if len(done) >= self.startup else (None, done)
        seen = losses(trials, study.directions)
        table = beliefs.smooth if beliefs else seen
        if len(study.directions) == 1:
            return [trials[i].number for i in np.flatnonzero(nondominated(table))][:1]
        return [trials[i].number for i in np.flatnonzero(nondominated(table) | nondominated(seen))]

    def _beliefs(self, study: Study, done: Sequence[FrozenTrial]) -> tuple[Beliefs | None, list[FrozenTrial]]:
        """A model of these trials (not more than the cap: those are returned), its shape fitted now and then."""
        names = study.metric_names or ["?"] * len(study.directions)
        signs = [-1.0 if direction.name == "MAXIMIZE" else 1.0 for direction in study.directions]
        first = losses(done[: self.startup], study.directions)

        def of(trials: Sequence[FrozenTrial], told: Sequence[Point] = ()) -> Beliefs:
            return Beliefs(self._points(trials), losses(trials, study.directions), first, names, signs, told)

        trials = self._selected(done, study)
        if len(trials) < 2:
            return None, trials
        base = self._selected(done[: _milestone(len(done), self.startup)], study)
        key = study.study_name, tuple((t.number, *t.values) for t in base)
        if key not in self._fits:
            if len(self._fits) >= 64:
                self._fits.clear()
            self._fits[key] = of(base if len(base) > 1 else trials).fit()
        beliefs = of(trials, self._told(study) if len(names) > 1 else [])
        beliefs.smoothen(self._fits[key])
        return beliefs, trials

    def _selected(self, done: Sequence[FrozenTrial], study: Study) -> list[FrozenTrial]:
        """At most the cap: half of them the best, the others the youngest of the rest. Those of other pages are left out."""
        if len(done) > self.cap:
            keys = order(done, study.directions)
            best = set(sorted(range(len(done)), key=lambda i: keys[i])[: self.cap // 2])
            rest = [i for i in range(len(done)) if i not in best]
            done = [done[i] for i in sorted([*best, *rest[-(self.cap - len(best)) :]])]
        return [t for t in done if self._coder(self.decisions(t))]

    def _limits(self, past: Sequence[FrozenTrial]) -> list[Limit]:
        """What the youngest trials tell of failing, and of each limit."""
        youngest = [t for t in reversed(past) if t.state.is_finished()][: self.cap // 2]
        found = ((t, self._coder(self.decisions(t))) for t in youngest)
        ended = [(t, self._point(coded)) for t, coded in found if coded]
        failing = [(point, 0.5 if t.state == TrialState.FAIL else -0.5) for t, point in ended if t.state != TrialState.PRUNED]
        limits = [Limit([point for point, _ in failing], np.array([excess for _, excess in failing]))]
        for name in dict.fromkeys(name for t, _ in ended for name in t.constraints):
            judged = [(t, point) for t, point in ended if name in t.constraints]
            limits.append(Limit([point for _, point in judged], slack(t.constraints[name] for t, _ in judged)))
        return limits

    def _told(self, study: Study) -> list[Point]:
        """Architectures that were measured and have no result, the youngest."""
        ended = [t for t in self._ours(study) if t.state.is_finished() and measured(t)]
        return self._points(ended[-(self.cap // 2) :])

    # -- candidates --------------------------------------------------------------------------------------------------

    def _pool(self, parents: Sequence[FrozenTrial], number: int, taken: set[Hashable]) -> list[Coded]:
        """New architectures: of five, three are mutants of the parents, one is a mutant's mutant, one is random.

        Those of a parent are drawn anew in every eighth proposal only: to encode them is most of the work.
        """
        pool: dict[Hashable, Coded] = {}
        share = -(-self.candidates // (5 * len(parents)))
        for parent in parents:
            rng = random.Random(f"{self.seed}/{parent.number}/{(number + parent.number) // KEPT}")
            fresh = 0
            for decisions in islice(self._offspring(self.decisions(parent), rng), 2 * 5 * share):
                coded = self._coder(decisions)
                if coded and (name := self._name(coded)) not in pool and self._is_new(coded, taken):
                    pool[name] = coded
                    fresh += 1
                if fresh == 5 * share:
                    break
        return list(pool.values())

    def _offspring(self, parent: Decisions, rng: random.Random) -> Iterator[Decisions]:
        while True:
            yield from (near := [self._mutant(parent, rng) for _ in range(3)])
            yield self._mutant(near[0], rng)
            yield self.space.sample(rng).decisions

    def _mutant(self, parent: Decisions, rng: random.Random) -> Decisions:
        """:func:`redraw`, without its walk through the page where no decision depends on another."""
        if not self._independent:
            return redraw(self.space, parent, rng)
        key = rng.choice(self._free)
        label = parent[key]
        while label == parent[key]:
            label = draw(self.space.holes[key], rng)
        return {**parent, key: label}

    def _start(self, study: Study, past: Sequence[FrozenTrial], begun: int, rng: random.Random) -> Decisions:
        """The largest of 1, 2, 4, 8, 16 random ones in turn (smallest, where that is believed to be the better).

        Several objectives and limits pull to either side: there, a random one.
        """
        taken = self._taken(past, past[-self.cap :])
        if len(study.directions) > 1 or any(violation(t) > 0 for t in past):
            return self._new(rng, taken)
        count = TOURNAMENTS[begun % len(TOURNAMENTS)] if begun < self.startup else CROWDED
        sign = 1.0 if study.directions[0].name == "MAXIMIZE" else -1.0

        def size(decisions: Decisions) -> float:
            coded = self._coder(decisions)
            return sign * (coded.code.size["macs"] + coded.code.size["num_params"]) if coded else -math.inf

        return max((self._new(rng, taken) for _ in range(count)), key=size)

    def _new(self, rng: random.Random, taken: set[Hashable]) -> Decisions:
        """A random architecture that is not taken; any, once there is no other."""
        fallback = self.space.sample(rng).decisions
        for decisions in self._random(rng):
            coded = self._coder(decisions)
            if coded and self._is_new(coded, taken):
                return decisions
            fallback = decisions if coded else fallback
        return fallback

    def _random(self, rng: random.Random) -> Iterator[Decisions]:
        yield from (self.space.sample(rng).decisions for _ in range(100))
        if self.space.size() <= LISTED:
            listed = list(enumerate_decisions(self.space.plan))
            rng.shuffle(listed)
            yield from listed

    # -- what is known of an architecture ------------------------------------------------------------------------------

    def _name(self, coded: Coded) -> Hashable:
        """What makes an architecture another one: its name; and where a spelling costs more (as on a device that
        computes what nothing reads), what it costs."""
        return coded.name, *sorted(self._known_of(coded).items())

    def _taken(self, trials: Sequence[FrozenTrial], near: Sequence[FrozenTrial]) -> set[Hashable]:
        """The trials' decisions; of those ``near`` also the names, for which they have to be encoded."""
        coded = [found for t in near if (found := self._coder(self.decisions(t)))]
        return {_spelling(self.decisions(t)) for t in trials} | {self._name(found) for found in coded}

    def _is_new(self, coded: Coded, taken: set[Hashable]) -> bool:
        return _spelling(coded.decisions) not in taken and self._name(coded) not in taken

    def _points(self, many: Sequence[FrozenTrial] | Sequence[Coded]) -> list[Point]:
        """The architectures as the model sees them; trials that are none are left out."""
        found = ((one, {}) if isinstance(one, Coded) else (self._coder(self.decisions(one)), measured(one)) for one in many)
        return [self._point(coded, told) for coded, told in found if coded]

    def _point(self, coded: Coded, told: Mapping[str, float] | None = None) -> Point:
        """``told``: what was measured of it."""
        return Point(coded.code, {**(told or {}), **self._known_of(coded)}, partial(self._coder.costs, coded.decisions))

    def _known_of(self, coded: Coded) -> Mapping[str, float]:
        if self._ask is None:
            return {}
        key = tuple(coded.decisions.items())
        if key not in self._known:
            if len(self._known) >= MEMORY:
                self._known.clear()
            self._known[key] = dict(self._ask(self.space.architecture(coded.decisions)))
        return self._known[key]

    def _ours(self, study: Study, but: int | None = None) -> list[FrozenTrial]:
        """The trials that have decisions of this space."""
        trials = study.get_trials(deepcopy=False)
        return [t for t in trials if t.number != but and self.decisions(t)]


def _spelling(decisions: Decisions) -> Hashable:
    return frozenset(decisions.items())


def _milestone(count: int, first: int) -> int:
    """The last of first, first * 1.15, ... that is not beyond ``count``: the model's shape is fitted to so many trials."""
    found = step = min(first, count)
    while step <= count:
        found, step = step, max(step + 1, int(step * 1.15))
    return found
