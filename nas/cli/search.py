"""``nas search``."""

from __future__ import annotations

import random
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any

from nas.cli.arguments import Arguments
from nas.errors import ExportError, NasError, UsageError
from nas.net.graph import Graph
from nas.net.lower import lower
from nas.ops.plugins import load_plugins, on_command_line
from nas.report.text import count, duration, figure, milliseconds, percent, table
from nas.search.config import DEFAULTS, SearchConfig
from nas.search.run import FRONT_COLUMNS, RunFolder
from nas.space.library import load_space
from nas.space.search_space import Architecture


def run(arguments: Arguments) -> dict[str, Any]:
    """Search and print the front."""
    words = dict(arguments.keys)
    if "data" not in words and "config" not in words:
        words["data"] = default_data()
    config = SearchConfig.from_words(words)
    from nas.export.folder import parse_formats
    from nas.report.loggers import open_loggers
    from nas.search.start import search

    formats = parse_formats(config.formats)
    say, view = outputs(arguments.json)
    if not RunFolder.named(config.run, config.space).exists:
        foretell(config, formats, say)
    result = search(config, say=say, view=view, callbacks=open_loggers(config.log or ""))
    return report(result, arguments.json, say)


SAMPLES = 20
"""Networks of a space whose operations are tried in the formats that are asked for."""


def foretell(config: SearchConfig, formats: Sequence[str], say: Callable[[str], None]) -> None:
    """Say, before anything is trained, which operations of the space a format cannot express, and what has no effect.

    Raises ExportError where the packages of a format are not installed, SpaceError for a space that cannot be read.
    """
    from nas.search.shares import parse_final

    if not parse_final(config.final)[0]:
        for key, said, done in (("formats", config.formats, "exported"), ("recipe", config.recipe, "trained")):
            if said != DEFAULTS[key]:
                say(f"note: without a final training nothing is {done} by {key}={said}: add final=1")
        return
    from nas.export.formats import check_installed, inexpressible

    check_installed(formats)
    if not (further := [name for name in formats if name in ("onnx", "pt2")]):
        return
    load_plugins(config.plugins)
    space = load_space(config.space)
    graphs = list(_lowered(space.sample(random.Random(seed)) for seed in range(SAMPLES)))
    for name in further:
        say(f"trying the space's operations in {name}")
        if refused := inexpressible(graphs, name):
            say(f"note: {name} cannot express {', '.join(refused)}; networks with such operations are exported without it")


def _lowered(architectures: Iterable[Architecture]) -> Iterator[Graph]:
    for architecture in architectures:
        with suppress(NasError):  # impossible ones are a matter of the search
            yield lower(architecture)


def default_data() -> str:
    """cifar10 where there is a GPU. Raises UsageError where there is none."""
    import torch

    if torch.cuda.is_available():
        return "cifar10"
    raise UsageError("this machine has no GPU that torch can use, and data= is not given: on a CPU, say what to train on",
                     hint="For example: data=digits, or data=PATH (an .npz, or a folder of class folders).")  # fmt: skip


def outputs(json: bool) -> tuple[Callable[[str], None], Callable[[], AbstractContextManager[Any]]]:
    """Where choices and progress go: stdout, or stderr when stdout carries a JSON document."""
    from nas.report.live import view

    stream = sys.stderr if json else sys.stdout

    def say(line: str) -> None:
        print(line, file=stream, flush=True)

    return say, lambda: view(stream)


def export_finals(result: Any, say: Callable[[str], None]) -> dict[int, str]:
    """Export the networks that were trained to the end: trial -> folder; without the formats that refuse one."""
    if not result.finals:
        return {}
    from nas.cli.export import document_of, findings
    from nas.export.final import export_final
    from nas.export.folder import parse_formats
    from nas.export.latency import Measuring, further
    from nas.export.origin import found_lines
    from nas.train.data import load_data

    config, path, folders = result.config, result.folder.path, {}
    data, formats = load_data(config.data, seed=config.seed, image_size=config.image_size), parse_formats(config.formats)
    words = {word: getattr(config, word) for word in ("space", "data", "budget")}
    for record, final in result.finals:
        out = path / "export" / str(record.number)
        measured = "latency" in record.metrics or further(formats)
        write = partial(export_final, final, out, data=data, found=tuple(found_lines(words, record, result.checks)),
                        command=f"nas search config={path / 'config.yaml'}{on_command_line(config.plugins)}",
                        measuring=Measuring.of_run(config, path) if measured else None)  # fmt: skip
        try:
            exported = write(formats=formats)
        except ExportError as error:
            kept = expressible(lower(Architecture(final.spec)), formats)
            say(f"note: trial {record.number} is exported as {', '.join(kept)} alone: {error}")
            exported = write(formats=kept)
        say("\n".join([f"exported: {out}", *findings(document_of(exported))]))
        folders[record.number] = str(out)
    return folders


def expressible(graph: Graph, formats: Sequence[str]) -> tuple[str, ...]:
    """The formats that can express each operation of a network one of them refused; the source alone where all can."""
    from nas.export.formats import WRITERS, inexpressible

    kept = tuple(name for name in formats if name not in WRITERS or not inexpressible([graph], name))
    return kept if len(kept) < len(formats) else ("py",)


def report(result: Any, json: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Export what was trained to the end, print what a search found, and return its document."""
    exported = export_finals(result, say)
    document: dict[str, Any] = result.document()
    document["final"] = [{**row, "export": exported.get(row["trial"])} for row in document["final"]]
    if not json:
        print(text(document, result.config.plugins))
    return document


def text(document: dict[str, Any], plugins: Sequence[str] = ()) -> str:
    """The front, what was spent, and what to type next; a run's plugins are named again in what is typed."""
    run = document["run"]
    best = document["best"]["trial"] if document["best"] else None
    front = document["front"]
    trials = ", ".join(f"{n} {state}" for state, n in document["trials"].items() if n or state == "completed")
    budget = ", ".join(map(spent, document["budget"]))
    lines = [document["message"], f"trials: {trials}; budget: {budget}; wall time {duration(document['wall_s'])}"]
    if front:
        lines += ["", "the front (accuracy of the trained proxy, all else of the network to deploy):", front_table(front, best)]
        if any(r["ties"] for r in front):
            lines.append("~ N: trial N is as good within the errors of both in every objective")
    elif document["trials"]["completed"]:
        lines += ["", "no completed candidate is within every limit"]
    else:
        lines += ["", f"no candidate was trained to its end: {run}/trials.csv says why of each"]
    if document["final"]:
        finals = [(r["trial"], percent(r["val_accuracy"]), percent(r["test_accuracy"]), r["epochs"], r["weights"], r["export"])
                  for r in document["final"]]  # fmt: skip
        lines += ["", "trained at deployed size:", table(("trial", "val", "test", "epochs", "weights", "export"), finals)]
    if (tau := document["rank_correlation"]) is not None:
        lines.append(f"the search's accuracy and the final one: Kendall {tau:.2f} (n={len(document['final'])}; orders drawn at "
                      f"random agree so well in {percent(document['rank_chance'])} of cases)")  # fmt: skip
    word, loading = shlex.quote(run), on_command_line(plugins)
    lines += ["", f"run folder: {run}"]
    if document["interrupted"]:
        lines.append(f"go on:      nas resume {word}{loading}")
    if front:
        lines.append(f"export:     nas export {word} trial=best{loading}")
    return "\n".join(lines)


HEADS = ("trial", "val", "repeated", "test", "latency", "again", "params", "MACs")


def front_table(front: Sequence[Mapping[str, Any]], best: int | None = None) -> str:
    """A front as people read it: repeats as mean and standard deviation, what else the run judges by, ties by their numbers.
    A column that nothing is known of is left out."""
    more = [key for key in front[0] if key not in FRONT_COLUMNS] if front else []
    rows = [
        (r["trial"], percent(r["val_accuracy"]), repeated(r), percent(r["test_accuracy"]), milliseconds(r["latency_ms"]),
         milliseconds(r["latency_again_ms"]), count(r["num_params"]), count(r["macs"]),
         *(figure(name, r[name]) for name in more),
         " ".join(["best"] * (r["trial"] == best) + [f"~ {', '.join(map(str, r['ties']))}"] * bool(r["ties"])))
        for r in front
    ]  # fmt: skip
    heads = (*HEADS, *more, "")
    kept = [i for i, head in enumerate(heads) if head == "trial" or any(row[i] not in {"-", ""} for row in rows)]
    return table([heads[i] for i in kept], [[row[i] for i in kept] for row in rows])


def repeated(row: Mapping[str, Any]) -> str:
    """Mean and standard deviation over all trainings of a member; a dash for one."""
    if not row["repeats"]:
        return "-"
    return f"{100 * row['accuracy_mean']:.2f} +- {100 * row['accuracy_sd']:.2f} % (n={row['repeats'] + 1})"


def spent(row: Mapping[str, Any]) -> str:
    """A part of the budget; what was spent beyond it is said."""
    over = row["spent"] - row["asked"]
    text = f"{row['spent']:.3g} of {row['asked']:g}{row['unit']}"
    return f"{text} ({over:.2g}{row['unit']} over)" if over > 0 else text
