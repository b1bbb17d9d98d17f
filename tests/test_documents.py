"""README.md and docs/*.md: every command that they print is read by the real parsers, and runs as far as a CPU can.

A command is run as it is printed, but for the words of ``SMALLER`` and ``MORE``; the few that cannot run here stand in
``NOT_RUN`` with the reason. There is no third kind.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import nas
from nas.cli import VERBS, main
from nas.cli.arguments import Arguments, parse_arguments
from tests.cli.driver import NAS, environment
from tests.ops.plugins import tables_restored
from tests.search.runs import config_of, quietly, write_data, write_page

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (\w+\.\w+)\n")
"""First line of a block that is a file of the reader's."""

MY_NET = """
name: my_net
input: [1, 8, 8]
network:
  - {name: body, repeat: 2, op: conv_bn_act, out_channels: 8}
  - global_avg_pool
  - classifier
"""

NOT_RUN = {
    "make ": "what the targets run is run by itself; tests/test_documents.py is one of the tests",
    "100gpuh": "GPU hours",
    "address=auto": "a cluster; the tutorial runs address=local, tests/search/executors/test_ray.py a cluster of two nodes",
    "ray up": "machines of a cloud; tests/test_examples.py reads the page by Ray's schema",
    "ray start": "would leave a Ray behind on this machine",
    "ssh -N": "another machine",
    "nas worker": "a search on another machine; tests/search/executors/test_remote.py joins one",
    "endpoint=0.0.0.0": "opens a port to the network; tests/search/executors/test_remote.py opens one on the loopback",
    "host=0.0.0.0": "opens a port to the network; the tutorial's server is asked on the loopback",
    "http://box": "another machine; the tutorial's server is asked on the loopback",
}
"""A part of the command -> why it is only parsed."""

SERVES = ("nas measure-server", "--serve")
"""Parts of commands that go on until Ctrl-C: begun, awaited until they say a line, and ended after the page's last command."""

SMALLER = {
    "data=cifar10": "data=tiny.npz", "data=digits": "data=tiny.npz", "space=nasnet_cell": "space=many.yaml",
    "space=efficientnet": "space=many.yaml", "nasnet_cell": "many.yaml",
    "budget=1min": "budget=3trials,2min", "budget=2min": "budget=9trials,2min", "budget=3min": "budget=3trials,2min",
    "budget=2h": "budget=40s", "budget=8h": "budget=15s", "budget=+10min": "budget=+2trials", "budget=+30s": "budget=+5s",
    "deploy=repeats=6,filters=32": "deploy=repeats=1,filters=4", "deploy=input=3x224x224": "deploy=input=1x32x32",
    "--nproc_per_node=8": "--nproc_per_node=1", "trial=17": "trial=0", "members=8": "members=2",
    "NAME": "my_net.yaml", "NET": "my_net.yaml",
    # a busy machine gives no latency, so what later commands need does not depend on one
    "constraint=latency<=1ms": "constraint=num_params<=1M", "constraint=latency<=5ms": "constraint=num_params<=1M",
    "latency<=0.5ms": "num_params<=1M", "latency<=3ms": "num_params<=1M",
}  # fmt: skip
"""A word as it is printed -> the word that is run."""

MORE = {
    "search": ("workers=1", "epochs=2", "objectives=accuracy,num_params"), "resume": ("workers=1",), "train": ("epochs=1",),
    "latency-table": ("check=0",),
}  # fmt: skip
"""Keys that are added where a command does not say them: small, and without what a busy machine refuses."""

MEASURES = (("measure",), ("scale",), ("latency-table",))
"""Verbs that a busy machine may refuse."""

CHEAP = ("show", "spaces", "ops", "best", "report", "export")
"""Verbs whose commands run in the everyday suite."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command as a page prints it: the words, and the variables before them."""

    page: str
    line: int
    words: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def text(self) -> str:
        """As one line."""
        return " ".join(self.words)

    @property
    def nas(self) -> tuple[str, ...]:
        """The command line of nas in it, also behind ``torchrun`` and ``ray``; empty where there is none."""
        words = [part for word in self.words for part in (shlex.split(word) if word.startswith("nas ") else [word])]
        return tuple(words[words.index("nas") + 1 :]) if "nas" in words else ()

    @property
    def only_parsed(self) -> bool:
        """Whether the table says that it cannot run here."""
        return any(part in self.text for part in NOT_RUN)


def commands(page: Path) -> Iterator[Command]:
    """All commands of a page's ``sh`` blocks; one may go on over lines."""
    text = page.read_text(encoding="utf-8")
    for block in FENCE.finditer(text):
        if block[1] == "sh":
            first = text[: block.start(2)].count("\n") + 1
            yield from _commands(page.name, first, block[2])


def _commands(page: str, first: int, block: str) -> Iterator[Command]:
    waiting, begin = "", first
    for number, line in enumerate(block.splitlines(), first):
        begin, waiting = (begin, f"{waiting}\n{line}") if waiting else (number, line)
        try:
            words = shlex.split(waiting, comments=True)
        except ValueError:  # a quotation, or a line after a backslash, goes on
            continue
        if waiting.endswith("\\"):
            continue
        waiting = ""
        named = [word.partition("=") for word in words]
        count = next((i for i, (name, sign, _) in enumerate(named) if not sign or not name.isupper()), len(words))
        if words[count:]:
            yield Command(page, begin, tuple(word for word in words[count:] if word.strip("&\n")),
                          tuple((name, value) for name, _, value in named[:count]))  # fmt: skip
    assert not waiting, f"{page}:{begin}: a command without an end"


COMMANDS = [command for page in PAGES for command in commands(page)]


def understood(verb: str, arguments: Arguments) -> None:
    """Read the values of a command line as its verb does."""
    from nas.cli.measure import _limits, options_of
    from nas.search.budget import extended, parse_budget
    from nas.search.compound import parse_coefficients
    from nas.search.config import SearchConfig, SizeWords
    from nas.search.objectives import parse_constraint

    keys = dict(arguments.keys)
    if verb == "search":
        SearchConfig.from_words({**({} if "config" in keys else {"data": "cifar10"}), **keys})
    if verb == "resume" and "budget" in keys:
        extended("1min,1trials", keys["budget"])
    if verb in ("train", "scale"):
        parse_budget(keys.get("budget", "1h"))
        SizeWords.parse(keys.get("deploy"), "deploy")
        parse_coefficients(keys.get("coefficients", "1,1,1"))
    if verb in ("measure", "latency-table", "scale"):
        options_of(arguments)
        _limits(arguments)
    for limit in arguments.words[1:] if verb == "best" else ():
        parse_constraint(limit)


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_every_command_is_understood(command: Command, place: Path) -> None:
    match command.words[0]:
        case "make":
            assert re.search(rf"^{command.words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case "python":
            assert (ROOT / command.words[1]).exists() or command.page == "tutorial.md"
        case "nas" | "torchrun" | "ray" | "ssh":
            assert command.nas or command.only_parsed
        case other:
            pytest.fail(f"{command}: no test knows what to do with {other!r}")
    if command.nas:
        verb, *rest = command.nas
        understood(verb, parse_arguments(VERBS[verb], rest))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_within_a_sentence_name_what_there_is(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for line in re.findall(r"`(?:\w+=\S+ )*nas ([a-z][^`]*)`", text):
        verb, *rest = shlex.split(line.replace("\n", " "))
        keys = {word.partition("=")[0] for word in rest if re.match(r"[a-z_]+=", word)}
        assert keys <= set(VERBS[verb].keys), line
        assert {word[2:] for word in rest if word.startswith("--")} <= {*VERBS[verb].flags, *VERBS[verb].options, "json"}, line
    for script in re.findall(r"`python ([\w/]+\.py)", text):
        assert (ROOT / script).exists(), script


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"`[^`]*`", "", text)):
        assert "://" in target or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_hides_from_the_tests(page: Path) -> None:
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        assert language in ("", "sh", "python", "yaml"), f"no test knows {language}"
        assert language or "nas " not in block or "usage: nas" in block, block
    assert not re.search(r"^(    |\t)(\w+=\S+ )*nas ", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)


@pytest.mark.parametrize("part", [*NOT_RUN, *SMALLER])
def test_the_tables_have_nothing_that_the_pages_have_not(part: str) -> None:
    assert any(part in command.text for command in COMMANDS)


# -- running them ----------------------------------------------------------------------------------------------------


def furnish(place: Path) -> None:
    """What the pages' names stand for, beside ``results/RUN``; and the files that a page has its readers write."""
    write_data(place / "tiny.npz")
    write_page(place / "many.yaml")
    (place / "my_net.yaml").write_text(MY_NET)
    for number in range(60):
        folder = place / "photos" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 80 * (number % 3) + number).save(folder / f"{number}.png")
    for page in PAGES:
        for _, block in FENCE.findall(page.read_text(encoding="utf-8")):
            if file := FILE.match(block):
                (place / file[1]).write_text(block)


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the commands name, and a finished run ``results/RUN`` of four trials; not to be changed."""
    base = tmp_path_factory.mktemp("documents")
    furnish(base)
    quietly(config_of(base / "tiny.npz", base / "many.yaml", base / "results" / "RUN", budget="4trials", epochs="1"))
    return base


@pytest.fixture
def place(furnished: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(furnished)
    with tables_restored():
        yield furnished


def smaller(command: Command) -> list[str]:
    """The words that are run: those of the tables in place of the printed ones."""
    words = [SMALLER.get(word, word) for word in command.words]
    if command.nas:
        said = {word.partition("=")[0] for word in words}
        words += [word for word in MORE.get(command.nas[0], ()) if word.partition("=")[0] not in said]
    return words


QUICK = [c for c in COMMANDS if c.words[0] == "nas" and c.nas[0] in CHEAP and c.page != "tutorial.md"
         and not c.only_parsed and not any(part in c.text for part in SERVES)]  # fmt: skip


@pytest.mark.parametrize("command", QUICK, ids=str)
def test_a_cheap_command_runs(command: Command, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(smaller(command)[1:]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out


PYTHON = [(page, block) for page in PAGES for language, block in FENCE.findall(page.read_text(encoding="utf-8"))
          if language == "python" and not FILE.match(block)]  # fmt: skip


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=lambda value: value.name if isinstance(value, Path) else "")
def test_a_block_of_python_runs(page: Path, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "documents"}
    with tables_restored():
        exec(block, names)
    assert len(names) > 2


def test_the_readmes_pages_are_spaces(tmp_path: Path) -> None:
    blocks = [block for language, block in FENCE.findall(PAGES[0].read_text(encoding="utf-8")) if language == "yaml"]
    for number, block in enumerate(blocks):
        (tmp_path / f"{number}.yaml").write_text(block)
        assert nas.load_space(str(tmp_path / f"{number}.yaml")).size() > 1


class Running:
    """Runs a page's commands in processes of their own; servers are begun, and ended with it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.servers = folder, list[subprocess.Popen[str]]()
        self.environment = {**environment(), "HOME": str(folder), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled",
                            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # fmt: skip
        self.address = ""

    def run(self, command: Command) -> None:
        """Run one to its end. A measurement may be refused by a busy machine; nothing else may fail."""
        words = [word.replace("http://127.0.0.1:8764", self.address) for word in smaller(command)]
        if any("target=http" in word for word in words):
            words = [word for word in words if not word.startswith("objectives=")]
        argv = [*NAS, *words[1:]] if words[0] == "nas" else [sys.executable, *words[1:]] if words[0] == "python" else words
        if any(part in command.text for part in SERVES):
            return self._serve([*argv, "port=0"])
        done = subprocess.run(argv, cwd=self.folder, env=self.environment | dict(command.variables), capture_output=True,
                              text=True, timeout=300, check=False)  # fmt: skip
        refused = done.returncode == 2 and command.nas[:1] in MEASURES and "the measurement was refused" in done.stderr
        assert done.returncode == 0 or refused, f"{command}: {shlex.join(words)}\n{done.stdout}\n{done.stderr}"

    def _serve(self, argv: list[str]) -> None:
        server = subprocess.Popen(argv, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True)
        self.servers.append(server)
        assert server.stdout is not None
        said = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
        assert said
        self.address = said[0]

    def end(self) -> None:
        """End the servers."""
        for server in self.servers:
            server.terminate()
            server.communicate()


@contextmanager
def running(folder: Path) -> Iterator[Running]:
    """For one page."""
    page = Running(folder)
    try:
        yield page
    finally:
        page.end()


RUN = [page for page in PAGES if any(not c.only_parsed for c in commands(page))]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_every_command_of_a_page_runs_in_its_order(page: Path, furnished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    shutil.copytree(furnished, folder)
    with running(folder) as here:
        for command in commands(page):
            if not command.only_parsed:
                here.run(command)
