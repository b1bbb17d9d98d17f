from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas import Size, load_architecture, lower
from nas.errors import UsageError
from nas.net.identity import identity
from nas.search.compound import DOUBLE, Coefficients, about, candidates, grid, parse_coefficients, spread, step_cost


def test_the_grid_holds_what_doubles_in_steps_of_five_hundredths() -> None:
    found = grid((1.8, 2.2))
    assert Coefficients(1.2, 1.1, 1.15) in found, "EfficientNet's own"
    assert all(1.8 <= c.product <= 2.2 for c in found)
    assert all(abs(value / 0.05 - round(value / 0.05)) < 1e-9 and value >= 1 for c in found for value in c.triple)
    assert len(set(found)) == len(found)
    distances = [abs(c.product - 2) for c in found]
    assert distances == pytest.approx(sorted(distances))
    assert Coefficients(1.15, 1.1, 1.1) not in found


def test_efficientnets_own_powers() -> None:
    c = Coefficients(1.2, 1.1, 1.15)
    assert c.product == pytest.approx(1.92, abs=0.01)
    size = c.size(Size(width=0.5, input=(3, 224, 224)), 3)
    assert (size.width, size.depth) == pytest.approx((0.5 * 1.1**3, 1.2**3))
    assert size.input == (3, 340, 340)


@given(phi=st.integers(0, 6), side=st.integers(1, 300), gamma=st.floats(1, 2))
def test_resolution_never_shrinks_and_is_left_at_the_base(phi: int, side: int, gamma: float) -> None:
    scaled = Coefficients(1.0, 1.0, gamma).size(Size(input=(3, side, side)), phi).input
    assert scaled is not None
    assert scaled[1] >= side
    assert scaled[1] % 4 == 0 or scaled[1] == side
    if phi == 0:
        assert scaled[1] == side


def test_candidates_are_different_networks_and_know_their_cost() -> None:
    net, base = load_architecture("mobilenet_v2"), Size(width=0.5, input=(3, 32, 32))
    found = list(candidates(net, base, grid((1.9, 2.1))))
    assert 5 < len(found) < len(grid((1.9, 2.1)))
    assert len({identity(c.graph) for c in found}) == len(found)
    macs = lower(net, base).macs
    assert all(c.cost == lower(net, c.size).macs / macs for c in found[:5])
    assert any(about(c.cost, DOUBLE) for c in found)
    assert step_cost([c.cost for c in found]) == DOUBLE


@pytest.mark.parametrize(("costs", "step"), [
    ([1.0, 1.9, 2.1, 3.0], 2.0), ([1.0, 1.0, 2.25, 2.3], 2.25), ([1.5, 2.6], 1.5), ([1.0, 1.1, 3.0], None), ([], None),
])  # fmt: skip
def test_a_step_costs_double_or_the_nearest_to_it(costs: list[float], step: float | None) -> None:
    assert step_cost(costs) == step


@pytest.mark.parametrize("text", ["", "1,2", "1.2,1.1,x", "0.9,1,1", "1,1,5", "1.2,1.1,1.15,1", "nan,1,1"])
def test_coefficients_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="three numbers"):
        parse_coefficients(text)


def test_coefficients_are_read() -> None:
    assert parse_coefficients("1.2,1.1,1.15") == Coefficients(1.2, 1.1, 1.15)


@given(count=st.integers(0, 50), most=st.integers(1, 60))
def test_spread_keeps_the_first_and_the_order(count: int, most: int) -> None:
    items = list(range(count))
    kept = spread(items, most)
    assert len(kept) == min(count, most)
    assert kept == sorted(set(kept))
    assert kept[:1] == items[:1]
