"""How a budget is divided: what is said, what is chosen, what is refused."""

from __future__ import annotations

import pytest

from nas.errors import UsageError
from nas.search.shares import Shares, parse_members, parse_share


def chosen(strategy="auto", expected=100, **words):
    said = {"baseline": None, "repeats": None, "peers": None, "final": None, **words}
    return Shares.chosen(said, strategy=strategy, expected=expected)


def test_what_is_not_said_depends_on_how_much_there_is():
    assert chosen() == Shares(baseline=0.1, repeats=0.05)
    assert chosen(expected=10) == Shares()
    assert chosen(strategy="random").baseline == 0
    assert chosen(baseline="20%", repeats="0", final="2,25%") == Shares(baseline=0.2, final=0.25, members=2)
    assert chosen(peers="2").search == pytest.approx(0.85)
    assert chosen(final="3").search == pytest.approx(0.65)
    assert chosen(final="3").before_final == pytest.approx(0.7)


@pytest.mark.parametrize("shares", [Shares(), Shares(peers=0.2, peers_wanted=4), Shares(baseline=0.1, repeats=0.05),
                                    Shares(repeats=0.125, final=0.3, members=4)])
def test_written_out_they_read_back(shares):
    assert Shares.chosen(shares.to_mapping(), strategy="auto", expected=1) == shares


def test_they_are_told():
    text = str(Shares(baseline=0.1, repeats=0.05, final=0.2, members=3))
    assert text == "search 75% (of it 10% a random baseline), repeats 5%, final training of the best 3 20%"


@pytest.mark.parametrize(("text", "parsed"), [("3", (3, 0.3)), ("20%", (3, 0.2)), ("5, 40%", (5, 0.4)), ("0", (0, 0.0)),
                                              ("0%", (0, 0.0)), (None, (0, 0.0))])
def test_final(text, parsed):
    assert parse_members("final", text, 3, 0.3) == parsed


@pytest.mark.parametrize("text", ["10", "-1%", "95%", "x", "10 percent", ""])
def test_shares_that_are_none(text):
    with pytest.raises(UsageError, match="a share of the budget"):
        parse_share("baseline", text)


@pytest.mark.parametrize("words", [{"final": "many"}, {"final": "-3"}, {"repeats": "60%", "final": "40%"}, {"peers": "resnet"}])
def test_divisions_that_are_none(words):
    with pytest.raises(UsageError):
        chosen(**words)
