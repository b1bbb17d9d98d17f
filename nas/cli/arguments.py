"""``nas VERB word key=value ... --flag``: one small grammar for all verbs, with errors that name the nearest word."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nas.errors import UsageError, nearest

_KEY = re.compile(r"([a-z_][\w.]*)=(.*)", re.DOTALL)
_LIMIT = re.compile(r"\s*\w+\s*[<>!=]=")


@dataclass(frozen=True, slots=True)
class Arguments:
    """What stands behind the verb: words in order, keys (a repeated key as a list), and whether ``--json`` was given."""

    words: tuple[str, ...]
    keys: Mapping[str, Any]
    json: bool = False
    flags: frozenset[str] = frozenset()

    def get(self, key: str, default: str | None = None) -> str | None:
        """The value of a key, or ``default``."""
        value: str | None = self.keys.get(key, default)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """A verb: what it does, how it is written, what it takes, and the function that does it.

    ``words`` names the positional words (a trailing ``?`` makes one optional); ``keys`` says what each key means; ``run``
    returns the document that ``--json`` prints, having printed what a person reads otherwise; keys that begin with
    ``open_keys`` need no description; those in ``options`` may also be written ``--key FILE``.
    """

    name: str
    summary: str
    usage: str
    example: str
    run: Callable[[Arguments], dict[str, Any]]
    words: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    repeatable: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    open_keys: str = "\0"


def parse_arguments(verb: Verb, argv: Sequence[str]) -> Arguments:
    """Sort a command line into words, keys and flags. Raises UsageError."""
    words: list[str] = []
    keys: dict[str, Any] = {}
    flags: set[str] = set()
    known_flags = {"json": "", **verb.flags}
    rest = iter(argv)
    for argument in rest:
        if argument.startswith("--") and (name := argument[2:].partition("=")[0]) in verb.options:
            value = argument.partition("=")[2] or next(rest, "")
            if not value:
                raise UsageError(f"--{name} has no value", expected=f"--{name} FILE, {verb.keys[name]}")
            _add_key(verb, keys, name, value)
        elif argument.startswith("-"):
            name = argument.lstrip("-")
            if name not in known_flags or not argument.startswith("--"):
                raise UsageError(f"unknown flag of nas {verb.name}", got=argument,
                                 expected=", ".join(f"--{f}" for f in known_flags),
                                 hint=_meant(name, verb, known_flags))  # fmt: skip
            flags.add(name)
        elif (match := _KEY.fullmatch(argument)) and not _LIMIT.match(argument):
            _add_key(verb, keys, match[1], match[2])
        else:
            words.append(argument)
    required = [w for w in verb.words if not w.endswith("?")]
    if len(words) < len(required):
        raise UsageError(f"nas {verb.name} needs {required[len(words)].upper()}", expected=verb.usage)
    if len(words) > len(verb.words):
        extra = words[len(verb.words)]
        raise UsageError(f"nas {verb.name} does not take this word", got=extra, expected=verb.usage,
                         hint=nearest(extra, [f"{k}=" for k in verb.keys]))  # fmt: skip
    return Arguments(tuple(words), keys, "json" in flags, frozenset(flags))


def _add_key(verb: Verb, keys: dict[str, Any], key: str, value: str) -> None:
    if key not in verb.keys and not key.startswith(verb.open_keys):
        raise UsageError(f"unknown key of nas {verb.name}", got=key, expected=", ".join(verb.keys) or "no keys",
                         hint=nearest(key, verb.keys))  # fmt: skip
    if key in verb.repeatable:
        keys.setdefault(key, []).append(value)
    elif key in keys:
        raise UsageError(f"{key} is given twice", got=f"{key}={value}", expected=f"{key}= once")
    else:
        keys[key] = value


def _meant(name: str, verb: Verb, flags: Mapping[str, str]) -> str | None:
    word = name.partition("=")[0]
    if word in verb.keys:
        return f"Keys are written without dashes: {name if '=' in name else word + '=...'}"
    return nearest(word, flags)


def help_text(verb: Verb) -> str:
    """What ``nas VERB --help`` prints."""
    lines = [verb.summary, "", f"usage: {verb.usage}"]
    if verb.keys:
        width = max(map(len, verb.keys))
        lines += ["", "keys:", *(f"  {key:<{width}}  {meaning}" for key, meaning in verb.keys.items())]
    flags = {**verb.flags, "json": "one JSON document on stdout; progress goes to stderr", "help": "this text"}
    lines += ["", "flags:", *(f"  --{flag:<8}  {meaning}" for flag, meaning in flags.items())]
    return "\n".join([*lines, "", f"example: {verb.example}"])
