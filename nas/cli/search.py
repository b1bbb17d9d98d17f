"""``nas search``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from nas.cli.arguments import Arguments
from nas.report.text import count, duration, milliseconds, percent, table


def run(arguments: Arguments) -> dict[str, Any]:
    """Search and print the front."""
    words = dict(arguments.keys)
    from nas.search.config import SearchConfig

    if "data" not in words and "config" not in words:
        words["data"] = default_data()
    config = SearchConfig.from_words(words)
    from nas.export.folder import parse_formats
    from nas.report.loggers import open_loggers
    from nas.search.start import search

    parse_formats(config.formats)

    say, view = outputs(arguments.json)
    result = search(config, say=say, view=view, callbacks=open_loggers(config.log or ""))
    return report(result, arguments.json)


def default_data() -> str:
    """cifar10 where there is a GPU. Raises UsageError where there is none."""
    import torch

    from nas.errors import UsageError

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


def export_finals(result: Any) -> dict[int, str]:
    """Export the networks that were trained to the end: trial -> folder."""
    if not result.finals:
        return {}
    from nas.export.final import export_final
    from nas.export.folder import parse_formats
    from nas.export.origin import found_lines

    folders = {}
    for record, final in result.finals:
        out = result.folder.path / "export" / str(record.number)
        words = {word: getattr(result.config, word) for word in ("space", "data", "budget")}
        found = found_lines(words, record.number, record.metrics.get("latency"), record.attrs.get("latency"))
        export_final(final, out, formats=parse_formats(result.config.formats), found=tuple(found),
                     command=f"nas search config={result.folder.config}")
        folders[record.number] = str(out)
    return folders


def report(result: Any, json: bool) -> dict[str, Any]:
    """Export what was trained to the end, print what a search found, and return its document."""
    exported = export_finals(result)
    document: dict[str, Any] = result.document()
    document["final"] = [{**row, "export": exported.get(row["trial"])} for row in document["final"]]
    if not json:
        print(text(document))
    return document


def text(document: dict[str, Any]) -> str:
    """The front, what was spent, and what to type next."""
    run = document["run"]
    best = document["best"]["trial"] if document["best"] else None
    rows = front_rows(document["front"], best)
    trials = ", ".join(f"{n} {state}" for state, n in document["trials"].items() if n or state == "completed")
    budget = ", ".join(map(spent, document["budget"]))
    lines = [document["message"], f"trials: {trials}; budget: {budget}; wall time {duration(document['wall_s'])}"]
    if rows:
        lines += ["", "the front (accuracy of the trained proxy, latency of the network to deploy):",
                  table(FRONT_HEADS, rows)]
        if any(r["ties"] for r in document["front"]):
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
        lines.append(f"the search's accuracy and the final one: Kendall {tau:.2f} (n={len(document['final'])})")
    word = shlex.quote(run)
    lines += ["", f"run folder: {run}"]
    if document["interrupted"]:
        lines.append(f"go on:      nas resume {word}")
    if rows:
        lines.append(f"export:     nas export {word} trial=best")
    return "\n".join(lines)


FRONT_HEADS = ("trial", "val", "repeated", "test", "latency", "again", "params", "MACs", "")


def front_rows(front: Sequence[Mapping[str, Any]], best: int | None = None) -> list[tuple[Any, ...]]:
    """A front's rows as people read them: repeats as mean and standard deviation, ties by their numbers."""
    return [
        (r["trial"], percent(r["val_accuracy"]), repeated(r), percent(r["test_accuracy"]), milliseconds(r["latency_ms"]),
         milliseconds(r["latency_again_ms"]), count(r["num_params"]), count(r["macs"]),
         " ".join(["best"] * (r["trial"] == best) + [f"~ {', '.join(map(str, r['ties']))}"] * bool(r["ties"])))
        for r in front
    ]  # fmt: skip


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
