"""The grammar of a command line, and the help that is made from it."""

from __future__ import annotations

import pytest

from nas.cli import VERBS, main, overview
from nas.cli.arguments import Verb, help_text, parse_arguments
from nas.errors import UsageError

VERB = Verb(name="do", summary="Does.", usage="nas do A [B]", example="nas do a x=1", run=lambda arguments: {}, words=("a", "b?"),
            keys={"x": "an x", "many": "several"}, repeatable=("many",), flags={"loud": "louder"})  # fmt: skip


def test_words_keys_and_flags_in_any_order():
    arguments = parse_arguments(VERB, ["--loud", "x=1=2", "first", "many=a", "second", "many=b", "--json"])
    assert arguments.words == ("first", "second")
    assert arguments.keys == {"x": "1=2", "many": ["a", "b"]}
    assert arguments.flags == {"loud", "json"}
    assert arguments.json


@pytest.mark.parametrize("limit", ["latency<=5ms", "latency <= 5 ms", "accuracy>=90%", "a==b"])
def test_a_limit_is_a_word(limit):
    assert parse_arguments(VERB, ["first", limit]).words == ("first", limit)


@pytest.mark.parametrize(("argv", "says"), [
    ([], "needs A"), (["a", "b", "c"], "does not take"), (["a", "y=1"], "unknown key"), (["a", "x=1", "x=2"], "given twice"),
    (["a", "--lod"], "Did you mean 'loud'"), (["a", "--x=1"], "without dashes: x=1"), (["a", "--x"], "without dashes: x="),
    (["a", "-l"], "unknown flag"),
])  # fmt: skip
def test_what_is_not_understood_is_told(argv, says):
    with pytest.raises(UsageError, match=says):
        parse_arguments(VERB, argv)


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_every_help_names_all_that_the_verb_takes(verb, capsys):
    assert main([verb.name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.rstrip("\n") == help_text(verb)
    assert verb.summary in out
    assert verb.usage in out
    assert f"example: {verb.example}" in out
    for word in (*verb.keys, *(f"--{flag}" for flag in verb.flags), "--json", "--help"):
        assert word in out


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_every_example_can_be_read(verb):
    import shlex

    words = shlex.split(verb.example)
    assert words[:2] == ["nas", verb.name]
    parse_arguments(verb, words[2:])


def test_the_overview_names_every_verb(capsys):
    assert main([]) == main(["--help"]) == main(["help"]) == 0
    assert capsys.readouterr().out == (overview() + "\n") * 3
    assert all(f"  {name} " in overview() for name in VERBS)
