"""How a budget is divided: the search itself, its random baseline, repeats with other seeds, and final trainings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nas.errors import UsageError

FEW = 20
"""Fewer expected candidates than this are not divided: no baseline, no repeats."""

FINAL, PEERS = (3, 0.3), (2, 0.1)
"""Networks and share that ``final=20%`` and ``final=3`` leave unsaid, and the same of ``peers``."""

_PERCENT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*%")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Shares of the whole budget, each 0..1. The baseline's is a share of the candidates that the search evaluates.

    ``baseline``: candidates drawn at random whatever the strategy, so that what the strategy gains can be seen;
    ``repeats``: the front measured again, and its best trained with other seeds, so that noise can be seen;
    ``peers``: published networks trained and measured the same way; ``final``: the best ``members`` of the front trained at
    deployed size.
    """

    baseline: float = 0.0
    repeats: float = 0.0
    final: float = 0.0
    members: int = 0
    peers: float = 0.0
    peers_wanted: int = 0

    @property
    def search(self) -> float:
        """The share after which no candidate is begun."""
        return 1.0 - self.repeats - self.peers - self.final

    @property
    def before_final(self) -> float:
        """The share after which only final trainings go on."""
        return 1.0 - self.final

    def __str__(self) -> str:
        parts = [f"search {self.search:.0%}" + (f" (of it {self.baseline:.0%} a random baseline)" if self.baseline else "")]
        parts += [f"repeats {self.repeats:.0%}"] * (self.repeats > 0)
        parts += [f"{self.peers_wanted} published networks {self.peers:.0%}"] * (self.peers > 0)
        parts += [f"final training of the best {self.members} {self.final:.0%}"] * (self.final > 0)
        return ", ".join(parts)

    def to_mapping(self) -> dict[str, str]:
        """As the keys of a search."""
        return {"baseline": _percent(self.baseline), "repeats": _percent(self.repeats),
                "final": f"{self.members},{_percent(self.final)}" if self.final else "0",
                "peers": f"{self.peers_wanted},{_percent(self.peers)}" if self.peers else "0"}  # fmt: skip

    @classmethod
    def chosen(cls, words: Mapping[str, str | None], *, strategy: str, expected: int | None) -> Shares:
        """What was said, and for the rest: 10 % baseline and 5 % repeats where enough candidates are expected, nothing final.

        ``words`` has the keys baseline, repeats, peers and final. Raises UsageError.
        """
        many = expected is None or expected >= FEW
        baseline = parse_share("baseline", words["baseline"]) if words["baseline"] else 0.1 * many
        repeats = parse_share("repeats", words["repeats"]) if words["repeats"] else 0.05 * many
        members, final = parse_final(words["final"])
        wanted, peers = parse_members("peers", words["peers"], *PEERS)
        if repeats + final + peers > 0.9:
            raise UsageError("nothing is left for the search", got=f"repeats {repeats:.0%}, peers {peers:.0%}, final {final:.0%}",
                             expected="together at most 90 %")  # fmt: skip
        return cls(baseline=0.0 if strategy == "random" else baseline, repeats=repeats, final=final, members=members,
                   peers=peers, peers_wanted=wanted)


def _percent(share: float) -> str:
    return f"{100 * share:.6g}%" if share else "0"


def parse_share(key: str, text: str) -> float:
    """The fraction that ``"10%"`` or ``"0"`` says. Raises UsageError."""
    match = _PERCENT.fullmatch(text.strip())
    share = float(match[1]) / 100 if match else 0.0 if text.strip() == "0" else -1.0
    if not 0 <= share <= 0.9:
        raise UsageError(f"{key} is a share of the budget", expected="0%..90%, such as 10%, or 0", got=text)
    return share


def parse_final(text: str | None) -> tuple[int, float]:
    """Networks and share of the final training."""
    return parse_members("final", text, *FINAL)


def parse_members(key: str, text: str | None, members: int, share: float) -> tuple[int, float]:
    """Networks and share that ``"3"``, ``"20%"`` or ``"3,20%"`` say, with these for what is left unsaid. Raises UsageError."""
    for part in (text or "0").split(","):
        if part.strip().endswith("%"):
            share = parse_share(key, part)
        elif part.strip().isdecimal():
            members = int(part)
        else:
            raise UsageError(f"{key} cannot be read", expected="3 (networks), 20% (of the budget), or 3,20%", got=str(text))
    return (members, share) if members and share else (0, 0.0)
