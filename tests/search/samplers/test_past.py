"""What strategies read of a study that grows."""

import random

import optuna
from optuna.trial import TrialState

from nas.search.samplers.past import Completed, completed


def grown(seed, steps):
    """A study after each of so many steps: a trial begins, or one of those in flight ends somehow."""
    rng, flying = random.Random(seed), []
    study = optuna.create_study()
    for _ in range(steps):
        if not flying or rng.random() < 0.5:
            flying.append(study.ask())
        else:
            state = rng.choice([TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED])
            ended = flying.pop(rng.randrange(len(flying)))
            study.tell(ended, rng.random() if state == TrialState.COMPLETE else None, state=state)
        yield study.get_trials(deepcopy=False)


def test_completed_trials_are_kept_in_the_order_they_ended_and_another_study_is_noticed():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kept, seen = Completed(), 0
    for seed, steps in enumerate((60, 40, 80)):
        for trials in grown(seed, steps):
            found = kept(trials)
            assert found == completed(trials)
            seen += len(found) > 2 and [t.number for t in found] != sorted(t.number for t in found)
    assert seen > 20
