"""Holes of a page: ``{choice: [...]}`` and ``{range: [low, high]}``, wherever a value may stand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

from nas.errors import SpaceError, nearest
from nas.ops.catalogue import plain_name
from nas.space.grammar import (
    CHOICE_WORDS,
    MAX_OPTIONS,
    RANGE_WORDS,
    check_name,
    check_words,
    listed,
    mapping,
    place,
    switch,
)
from nas.space.page import Page
from nas.space.spec import Choice, Hole, Range

Check = Callable[[Any], Any]
"""Takes a plain value; returns what stands for it in the tree, or raises SpaceError."""


def hole_or(value: Any, where: str, check: Check) -> Any:
    """A hole of checked values, or a checked plain value."""
    return parse_hole(mapping(value, "a hole", where), where, check) if isinstance(value, Mapping) else check(value)


def parse_hole(words: Page, where: str, check: Check) -> Hole:
    """A choice or a range. Raises SpaceError for anything else."""
    if "choice" in words:
        return parse_choice(words, where, check)
    if "range" in words:
        return _range(words, place(words, where), check)
    raise SpaceError("not a value", where=place(words, where) or None, got=", ".join(map(str, words)) or "{}",
                     expected="a value, {choice: [...]} or {range: [low, high]}",
                     hint=nearest(str(next(iter(words), "")), ("choice", "range")))  # fmt: skip


def parse_choice(words: Page, where: str, check: Check) -> Choice:
    """A choice between what ``check`` makes of the options: a list, or a mapping that labels them."""
    where = place(words, where)
    check_words(words, CHOICE_WORDS, "choice")
    options = words["choice"]
    if isinstance(options, Mapping):
        labels, items = list(options), list(options.values())
    else:
        items = list(listed(options, "choice", where))
        labels = [_label(item, place(item, where)) for item in items]
    if not items:
        raise SpaceError("a choice without options", where=where or None, expected="choice: [a, b, ...]")
    if len(items) > MAX_OPTIONS:
        raise SpaceError("too many options", where=where or None, expected=f"at most {MAX_OPTIONS}", got=len(items))
    if twice := [label for label, times in Counter(labels).items() if times > 1]:
        same = [item for label, item in zip(labels, items, strict=True) if label == twice[0]]
        raise SpaceError("two options of one label", where=where or None, got=str(twice[0]),
                         hint="Take one of them away: they are the same." if same[0] == same[1] else
                         "Name them: choice: {label: option, ...}.")  # fmt: skip
    return Choice(options=tuple(check(item) for item in items), labels=tuple(labels), share=_share(words), where=where)


def parse_subsets(words: Page, states: list[Any], count: int) -> Choice:
    """A choice between all sets of ``count`` of the states."""
    check_words(words, CHOICE_WORDS, "choice")
    return make_subsets(states, count, words.where, _share(words))


def make_subsets(states: list[Any], count: int, where: str, share: str | None = None) -> Choice:
    """A choice between all sets of ``count`` of the states, labelled by the states joined with commas."""
    ways = math.comb(len(states), count)
    if not ways:
        raise SpaceError("a subset larger than its set", where=where or None, got=count,
                         expected=f"at most {len(states)}, the sources that are listed")  # fmt: skip
    if ways > MAX_OPTIONS:
        raise SpaceError("too many subsets", where=where or None, expected=f"at most {MAX_OPTIONS}",
                         got=f"{ways} ({count} of {len(states)})")  # fmt: skip
    options = tuple(combinations(states, count))
    return Choice(options=options, labels=tuple(",".join(map(str, option)) for option in options), share=share, where=where)


def _label(item: Any, where: str) -> Any:
    """What an option without a label is called: itself, its operation or cell, or its parts joined by commas."""
    if isinstance(item, Mapping):
        name = item.get("op", item.get("cell"))
        if isinstance(name, str):
            return plain_name(name)
    elif not isinstance(item, list | tuple):
        return plain_name(item) if isinstance(item, str) else item
    elif all(not isinstance(part, list | tuple | Mapping) for part in item):
        return ",".join(map(str, item))
    raise SpaceError("this option needs a label", where=where or None, expected="choice: {label: option, ...}")


def _range(words: Page, where: str, check: Check) -> Range:
    check_words(words, RANGE_WORDS, "range")
    ends, step = listed(words["range"], "range", where), words.get("step")
    if len(ends) != 2 or not all(_is_number(n) for n in (*ends, step) if n is not None) or None in ends:
        raise SpaceError("a range has two ends", where=where or None, expected="range: [low, high], step: number",
                         got=str(ends))  # fmt: skip
    (low, high), log = ends, switch(words.get("log", False), "log", where)
    if low > high:
        raise SpaceError("the range is upside down", where=where or None, expected=f"range: [{high}, {low}]",
                         got=f"[{low}, {high}]")  # fmt: skip
    if (step is not None and step <= 0) or (log and low <= 0):
        raise SpaceError("a step is above 0, and so is the low end of a log range", where=where or None,
                         got=str(dict(words)))  # fmt: skip
    hole = Range(low=low, high=high, step=step, log=log, share=_share(words), where=where)
    for end in (low, high) if hole.whole else (float(low), float(high)):
        check(end)
    return hole


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _share(words: Page) -> str | None:
    share = words.get("share")
    return None if share is None else check_name(share, "a shared decision's name", words.at("share"))
