"""The words of a page, and the checks that every part of the parser shares."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping
from typing import Any

from nas.errors import SpaceError, nearest
from nas.space.page import Page, Row

PAGE_WORDS = ("name", "source", "reference", "note", "input", "num_classes", "scaling", "constraints", "cells",
              "network", "auxiliary", "variants")  # fmt: skip
BLOCK_WORDS = ("blocks", "pick", "distinct", "ops")
CELL_WORDS = ("inputs", "layers", *BLOCK_WORDS, "combine", "output", "match", "match_output", "stride", "like")
NODE_WORDS = ("op", "cell", "layers", "branches", "choice")
LAYER_WORDS = ("name", "from", "scale")
BRANCHES_WORDS = ("branches", "combine", "match")
CELL_USE_WORDS = ("channels", "stride")
REPEAT_WORDS = ("repeat", "first", "each")
CHOICE_WORDS = ("choice", "share")
SUBSET_WORDS = ("subset", "of")
OPTIONAL_WORDS = ("optional",)
RANGE_WORDS = ("range", "step", "log", "share")
SCALING_WORDS = ("width", "depth", "resolution", "alpha", "beta", "gamma", "phi", "divisor")
INPUT_WORDS = ("project", "absent")
PROJECT = ("never", "when_different", "always", "calibrate")
ABSENT = ("project", "raw")

MAX_REPEAT = 1000
MAX_BLOCKS = 100
MAX_OPTIONS = 10_000
MAX_SCALE = 100

NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")

RESERVED = frozenset({"none", "unused", "output", "combine", "first", "x"})
"""Names with a meaning of their own in a page, in the keys of decisions, or among a network's modules."""

ENDINGS = ("_match", "_projection", "_base")
"""Endings of the modules that lowering adds."""

MODULE_WORDS = frozenset({
    "T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children", "compile", "cpu",
    "cuda", "double", "dump_patches", "eval", "extra_repr", "float", "forward", "get_buffer", "get_extra_state",
    "get_parameter", "get_submodule", "half", "ipu", "load_state_dict", "modules", "mtia", "named_buffers",
    "named_children", "named_modules", "named_parameters", "parameters", "register_backward_hook",
    "register_buffer", "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_load_state_dict_post_hook", "register_load_state_dict_pre_hook",
    "register_module", "register_parameter", "register_state_dict_post_hook", "register_state_dict_pre_hook",
    "requires_grad_", "set_extra_state", "set_submodule", "share_memory", "state_dict", "to", "to_empty", "train",
    "training", "type", "xpu", "zero_grad",
})  # fmt: skip
"""Public names of every torch module, which a layer would hide."""


def is_name(value: Any) -> bool:
    """Whether a layer or cell may be called so."""
    return (
        isinstance(value, str) and NAME.fullmatch(value) is not None and not keyword.iskeyword(value)
        and value not in RESERVED and value not in MODULE_WORDS and not value.endswith(ENDINGS)
    )  # fmt: skip


def check_name(value: Any, what: str, where: str, *, also: str | None = None) -> str:
    """The value if it may be a name. ``also`` is a reserved name that is allowed here."""
    if isinstance(value, str) and (is_name(value) or value == also):
        return value
    if isinstance(value, str) and NAME.fullmatch(value):
        raise SpaceError(f"{what} is taken", where=where or None, got=value, hint=f"Write {value.rstrip('_')}_1, say.")
    raise SpaceError(f"{what} is a word", where=where or None, expected="a letter, then letters, digits and _",
                     got=str(value), hint=no_hole(value))  # fmt: skip


def check_words(words: Page, known: Iterable[str], what: str) -> None:
    """Raises SpaceError for a word that is not known here, naming the nearest one that is."""
    names = list(known)
    for word in words:
        if word not in names:
            raise SpaceError(f"unknown word in the {what}", where=words.at(word) or None, got=str(word),
                             expected="one of " + ", ".join(names), hint=nearest(str(word), names))  # fmt: skip


def check_one_of(value: Any, known: Iterable[str], what: str, where: str) -> Any:
    """The value if it is known."""
    names = list(known)
    if value not in names:
        raise SpaceError(f"unknown {what}", where=where or None, expected="one of " + ", ".join(names), got=str(value),
                         hint=nearest(str(value), names))  # fmt: skip
    return value


def text(words: Page, word: str, *, required: bool = False) -> str:
    """The text of a word, or nothing."""
    value = words.get(word, "")
    if not isinstance(value, str) or (required and not value):
        raise SpaceError(f"{word} is text", where=words.at(word) or None, expected=f"{word}: text", got=str(value))
    return value


def integer(value: Any, word: str, where: str, *, least: int = 1, most: int | None = None) -> int:
    """The value if it is a whole number of that size."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        expected = f"{least} or more" if most is None else f"{least} to {most}"
        raise SpaceError(f"{word} is a whole number", where=where or None, expected=expected, got=str(value),
                         hint=no_hole(value))  # fmt: skip
    return value


def no_hole(value: Any) -> str | None:
    """The hint for a choice or range in a place that takes none; None for any other value."""
    holes = isinstance(value, Mapping) and not value.keys().isdisjoint(("choice", "range"))
    return "This is decided once for all: a choice or a range cannot stand here." if holes else None


def switch(value: Any, word: str, where: str) -> bool:
    """The value if it is true or false."""
    if not isinstance(value, bool):
        raise SpaceError(f"{word} is a switch", where=where or None, expected="true or false", got=str(value),
                         hint=no_hole(value))  # fmt: skip
    return value


def mapping(value: Any, what: str, where: str) -> Page:
    """The value as a page; a plain dict gets the place it is found at."""
    if not isinstance(value, Mapping):
        raise SpaceError(f"{what} is a mapping", where=where or None, expected="key: value lines", got=str(value))
    return value if isinstance(value, Page) else Page(value, where)


def listed(value: Any, what: str, where: str) -> Any:
    """The value if it is a list."""
    if not isinstance(value, list | tuple):
        raise SpaceError(f"{what} is a list", where=where or None, expected="[...], or lines that begin with -",
                         got=str(value))  # fmt: skip
    return value


def place(value: Any, default: str) -> str:
    """Where a value is written, if it remembers."""
    return (value.where or default) if isinstance(value, Page | Row) else default
