import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import RunError, UsageError
from nas.search.budget import UNITS, Budget, Meter, Part, extended, parse_budget


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("text", "kind", "limit"), [
    ("3min", "wall", 180), ("90s", "wall", 90), ("2h", "wall", 7200), ("1d", "wall", 86400), ("50trials", "trials", 50),
    ("1trial", "trials", 1), ("2cpuh", "cpu", 7200), ("100 gpuh", "gpu", 360000), ("30gpumin", "gpu", 1800),
    ("1.5H", "wall", 5400), ("10cpusec", "cpu", 10),
])  # fmt: skip
def test_every_unit_is_read(text, kind, limit):
    (part,) = parse_budget(text).parts
    assert (part.kind, part.limit) == (kind, limit)


def test_a_budget_has_parts_of_several_kinds():
    budget = parse_budget("100gpuh, 24h,50trials")
    assert str(budget) == "100gpuh,24h,50trials"
    assert (budget.limit("gpu"), budget.limit("cpu"), budget.trials) == (360000, None, 50)


@pytest.mark.parametrize("text", [
    "", "24", "h", "-3min", "0s", "3 weeks", "1.5trials", "2h,90s", "10gpus", "inf h", "nanh", "1e3s",
])  # fmt: skip
def test_what_is_no_budget_is_told_with_examples(text):
    with pytest.raises(UsageError, match="50trials"):
        parse_budget(text)


AMOUNTS = st.floats(0.001, 1e6).map(lambda x: round(x, 3))
PARTS = st.builds(Part, AMOUNTS, st.sampled_from([unit for unit in UNITS if "trial" not in unit]))


@given(st.lists(PARTS, min_size=1, max_size=3, unique_by=lambda part: part.kind))
def test_a_budget_written_out_reads_back_as_the_same(parts):
    budget = Budget(tuple(parts))
    assert parse_budget(str(budget)) == budget


# Steps in quarters of a second and fractions in quarters: every sum is exact in floating point.
STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "end", "count", "save"]), st.integers(0, 40).map(lambda n: n / 4),
              st.sampled_from(["cpu", "gpu"]), st.sampled_from([0.25, 0.5, 1.0, 2.0])),
    max_size=30,
)  # fmt: skip


@given(STEPS)
def test_the_meter_counts_exactly_what_ran_through_any_number_of_restarts(steps):
    clock = Clock()
    budget = parse_budget("1h,1000trials,5cpuh,5gpuh")
    meter = Meter(budget, clock)
    wall, trials, device = 0.0, 0, {"cpu": 0.0, "gpu": 0.0}
    running: dict[int, tuple[str, float]] = {}
    for number, (what, seconds, kind, fraction) in enumerate(steps):
        clock.now += seconds
        wall += seconds
        for on, share in running.values():
            device[on] += share * seconds
        if what == "begin":
            meter.begin(number, kind, fraction)
            running[number] = (kind, fraction)
        elif what == "end" and running:
            oldest = next(iter(running))
            meter.end(oldest)
            del running[oldest]
        elif what == "count":
            meter.count()
            trials += 1
        elif what == "save":  # killed, and started again after an hour that nobody worked
            saved = meter.to_mapping()
            clock.now += 3600
            meter = Meter(budget, clock)
            meter.remember(saved)
            running.clear()
        assert (meter.spent("wall"), meter.spent("trials")) == (wall, trials)
        assert {kind: meter.spent(kind) for kind in ("cpu", "gpu")} == device
        assert meter.left("gpu") == max(0.0, 5 * 3600 - device["gpu"])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 8), st.sampled_from([0.25, 1.0])), max_size=30))
def test_what_trials_in_flight_promise_is_what_each_of_them_promises(steps):
    """Also of trials that begin again, and of those that run longer than they should."""
    clock = Clock()
    meter = Meter(parse_budget("1000cpusec"), clock)
    running: dict[int, tuple[float, float]] = {}
    for begins, trial, seconds, fraction in steps:
        clock.now += seconds / 4
        if begins and trial not in running:
            meter.begin(trial, "cpu", fraction, expected=seconds)
            running[trial] = (fraction, clock.now + seconds)
        elif not begins and trial in running:
            meter.end(trial)
            del running[trial]
        promised = sum(fraction * max(0.0, until - clock.now) for fraction, until in running.values())
        room = 1000 - meter.spent("cpu") - promised
        assert meter.can_start(room, "cpu")
        assert not meter.can_start(room + 0.25, "cpu")


@pytest.mark.parametrize("text", ["10s", "10cpusec", "1trial"])
def test_a_part_is_exhausted_when_it_is_reached_and_not_before(text):
    clock = Clock()
    meter = Meter(parse_budget("5h," + text) if text != "10s" else parse_budget("10s,5gpuh"), clock)
    meter.begin(0, "cpu")
    clock.now += 9.75
    assert meter.exhausted() is None
    assert str(meter.exhausted(0.9)) == (text if "trial" not in text else "None")
    clock.now += 0.25
    meter.end(0)
    meter.count()
    assert str(meter.exhausted()) == text


def test_a_trial_starts_only_where_it_is_expected_to_end():
    clock = Clock()
    meter = Meter(parse_budget("100s,20gpusec,3trials"), clock)
    assert meter.can_start(100, "cpu")
    assert not meter.can_start(101, "cpu")
    assert meter.can_start(40, "gpu", fraction=0.5)
    assert not meter.can_start(41, "gpu", fraction=0.5)
    meter.begin(0, "gpu", expected=15)
    clock.now += 5
    assert meter.can_start(5, "gpu")
    assert not meter.can_start(6, "gpu")
    meter.begin(1, "cpu")
    meter.begin(2, "cpu")
    assert meter.can_start(0, "cpu", open_trials=2)
    assert not meter.can_start(0, "cpu", open_trials=3)


def test_a_share_of_a_budget():
    clock = Clock()
    meter = Meter(parse_budget("100s,10trials"), clock)
    assert meter.can_start(90, share=0.9)
    assert not meter.can_start(91, share=0.9)
    assert meter.can_start(1, share=0.85, open_trials=8)  # 8.5 trials are nine whole ones
    assert not meter.can_start(1, share=0.85, open_trials=9)
    clock.now += 20
    meter.count()
    assert (meter.used(), meter.used(0.5)) == (0.2, 0.4)


def test_without_a_limit_there_is_no_end():
    meter = Meter(Budget(), Clock())
    assert meter.can_start(1e9)
    assert meter.exhausted() is None
    assert meter.left("wall") is None
    assert meter.used() == 0


def test_rows_tell_asked_and_spent_in_the_unit_that_was_asked():
    clock = Clock()
    meter = Meter(parse_budget("2gpuh,5min"), clock)
    meter.begin(0, "gpu", fraction=2.0)
    clock.now += 90
    assert meter.rows() == [{"asked": 2.0, "spent": 0.05, "unit": "gpuh"}, {"asked": 5.0, "spent": 1.5, "unit": "min"}]


def test_a_trial_is_metered_once():
    meter = Meter(Budget(), Clock())
    meter.begin(3, "cpu")
    with pytest.raises(ValueError, match="trial 3"):
        meter.begin(3, "cpu")


@pytest.mark.parametrize(("device", "budget", "spent"), [("cpu", "2cpuh", 0.5), ("cuda", "2gpuh", 0.5), ("cuda:1", "2gpuh", 0.5),
                                                         ("cpu", "2gpuh", 0.0), ("cuda", "2cpuh", 0.0)])
def test_a_device_that_the_driver_holds_itself_is_spent_as_a_trials(device, budget, spent):
    clock = Clock()
    meter = Meter(parse_budget(budget), clock)
    meter.begin(0, "gpu" if "gpu" in budget else "cpu", fraction=2.0)
    meter.end(0)
    with meter.holding(device):
        clock.now += 900
        assert meter.rows()[0]["spent"] == spent / 2, "also while it lasts"
        clock.now += 900
    clock.now += 900
    with pytest.raises(ZeroDivisionError), meter.holding(device):
        1 / 0  # noqa: B018
    assert meter.rows() == [{"asked": 2.0, "spent": spent, "unit": budget[1:]}]


@pytest.mark.parametrize("value", [-1.0, "x", True, float("nan")])
def test_a_damaged_meter_is_refused(value):
    with pytest.raises(RunError, match="gpu"):
        Meter(Budget()).remember({}, {"gpu": value})


def test_of_what_was_spent_before_the_most_that_is_told_counts():
    clock = Clock()
    meter = Meter(parse_budget("1h,5gpuh,9trials"), clock)
    clock.now += 3  # spent by this driver before it could read what others had
    meter.remember({"wall": 10.0, "gpu": 4.0, "trials": 2}, {"wall": 9.0, "gpu": 4.5})
    assert [meter.spent(kind) for kind in ("wall", "cpu", "gpu", "trials")] == [13.0, 0.0, 4.5, 2]


@pytest.mark.parametrize(("old", "new", "both"), [
    ("3min", "+1min", "4min"), ("3min", "+30s", "3.5min"), ("100gpuh,24h", "+24h", "100gpuh,48h"),
    ("5trials", "9trials", "9trials"),
    ("1h", "+50trials", None), ("1h", "+", None), ("1h", "+x", None),
])  # fmt: skip
def test_a_budget_is_extended_or_replaced(old, new, both):
    if both is None:
        with pytest.raises(UsageError):
            extended(old, new)
    else:
        assert extended(old, new) == both


def test_a_meter_holds_no_more_than_is_in_flight():
    clock = Clock()
    meter = Meter(parse_budget("1000trials"), clock)
    for trial in range(100):
        meter.begin(trial, "cpu", expected=60.0)
        clock.now += 1.0
        meter.end(trial)
    assert not meter._untils
