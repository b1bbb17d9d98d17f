"""A strategy of ours in a user's own ``ray.tune.Tuner``: conditional decisions and all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

from nas.errors import RunError, UsageError
from nas.search.budget import Budget
from nas.search.samplers import choose_strategy
from nas.search.samplers.base import distributions
from nas.space.search_space import SearchSpace

KEY = "architecture"
"""What a trial's config calls its decisions: ``space.architecture(config["architecture"])``."""


class NasSearcher(Searcher):
    """Suggests the decisions of architectures as ``config["architecture"]``, and learns from one metric.

    Args:
        space: what is searched. It is not to be given to Tune, whose ``param_space`` may hold anything else.
        strategy: as of ``nas search``; ``auto`` chooses.
        metric, mode: what is reported, and ``max`` or ``min``; those of the ``TuneConfig`` where they are not given.
        seed: of everything that is drawn.

    Tune's state of it is JSON. Raises UsageError for several metrics, which Tune's trials cannot be judged by.
    """

    def __init__(self, space: SearchSpace, *, strategy: str = "auto", metric: str | None = None, mode: str | None = None,
                 seed: int = 0) -> None:  # fmt: skip
        if not isinstance(metric, str | None) or not isinstance(mode, str | None):
            raise UsageError("Tune's trials are judged by one metric", got=f"metric={metric}",
                             hint="`nas search` optimises several at once.")  # fmt: skip
        super().__init__(metric=metric, mode=mode)
        self._space, self._strategy, self._seed = space, strategy, seed
        self._study: optuna.Study | None = None
        self._numbers: dict[str, int] = {}
        if mode is not None:
            self._begin(mode)

    def _begin(self, mode: str) -> optuna.Study:
        sampler, _ = choose_strategy(self._strategy, self._space, Budget(), self._seed)
        self._study = optuna.create_study(direction="maximize" if mode == "max" else "minimize", sampler=sampler)
        return self._study

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Takes metric and mode of the ``TuneConfig``; False when there is nothing to take, or what there is differs."""
        if not isinstance(metric, str | None) or (self._study is not None and mode not in (None, self._mode)):
            return False
        self._metric = metric or self._metric
        if mode is not None and self._study is None:
            self._mode = mode
            self._begin(mode)
        return self._study is not None

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The decisions to try next."""
        if self._study is None:
            raise UsageError("a metric and a mode are missing", expected='metric="accuracy", mode="max"')
        trial = self._study.ask()
        self._numbers[trial_id] = trial.number
        return {KEY: dict(self._space.suggest(trial).decisions)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Learns from the last result; a trial without one, or with a value that is no number, has failed."""
        number = self._numbers.pop(trial_id, None)
        if number is None or self._study is None:
            return
        value = (result or {}).get(self._metric or "")
        if error or not isinstance(value, int | float) or math.isnan(value):
            self._study.tell(number, state=TrialState.FAIL)
        else:
            self._study.tell(number, float(value))

    def save(self, checkpoint_path: str) -> None:
        """Writes what was tried and found, as JSON."""
        trials = [] if self._study is None else self._study.get_trials(deepcopy=False)
        state = {"mode": self._mode, "metric": self._metric, "numbers": self._numbers,
                 "trials": [[trial.state.name, trial.params, trial.values] for trial in trials]}  # fmt: skip
        Path(checkpoint_path).write_text(json.dumps(state))

    def restore(self, checkpoint_path: str) -> None:
        """Goes on from there. Raises RunError for a file that is damaged, or of another space."""
        try:
            state = json.loads(Path(checkpoint_path).read_text())
            self._metric, self._mode, self._numbers = state["metric"], state["mode"], dict(state["numbers"])
            if self._mode is None:
                return
            known, study = distributions(self._space), self._begin(self._mode)
            for name, params, values in state["trials"]:
                study.add_trial(create_trial(state=TrialState[name], params=params, values=values,
                                             distributions={key: known[key] for key in params}))  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError("the state of this searcher cannot be read", where=checkpoint_path,
                           got=f"{type(error).__name__}: {error}") from None  # fmt: skip
