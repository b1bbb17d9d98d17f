"""``nas scale``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.cli.arguments import Arguments
from nas.cli.train import Subject, data_at, device_of, file_name, seconds_of, subject_of
from nas.errors import UsageError, nearest
from nas.net.graph import Size
from nas.report.text import count, milliseconds, percent, table
from nas.search.config import whole_number

if TYPE_CHECKING:
    from nas.search.scale_grid import Comparison

FOLDER = Path("results", "scaled")
MOST_MEMBERS = 10


def run(arguments: Arguments) -> dict[str, Any]:
    """Find coefficients, or take those given; write and measure the family."""
    from nas.cli.measure import options_of
    from nas.measure.target import check_target, is_remote
    from nas.net.lower import lower
    from nas.search.compound import parse_coefficients
    from nas.search.scale import scale

    subject = subject_of(arguments)
    text = arguments.get("coefficients")
    coefficients = None if text is None else parse_coefficients(text)
    if coefficients is None and subject.data is None:
        raise UsageError("there is nothing to find coefficients on", expected="data=..., or coefficients=1.2,1.1,1.15")
    members = whole_number("members", arguments.get("members", "4"), least=1) or 4
    if members > MOST_MEMBERS:
        raise UsageError("that is a large family", got=f"members={members}", expected=f"at most {MOST_MEMBERS}")
    conditions = options_of(arguments)
    if is_remote(conditions["device"]):
        raise UsageError("a family is measured on the machine that trains it", got=f"target={conditions['device']}")
    check_target(conditions["device"], runtime=conditions["runtime"])
    size, comparison = subject.size, None
    if coefficients is None:
        size, comparison = _comparison(arguments, subject)
    channels, height, width = lower(subject.architecture, size).inputs[0][1]
    size = replace(size, input=(channels, height, width))
    out = Path(arguments.get("out") or FOLDER / file_name(subject.name))
    stream = sys.stderr if arguments.json else sys.stdout
    try:
        document = scale(subject.architecture, size, name=file_name(subject.name), folder=out, conditions=conditions,
                         members=members, coefficients=coefficients, compare=comparison,
                         say=lambda line: print(line, file=stream, flush=True))  # fmt: skip
    except KeyboardInterrupt:
        document = {"interrupted": True}
    document |= {"out": str(out), "interrupted": "family" not in document}
    if not arguments.json:
        print(_text(document))
    return document


def _comparison(arguments: Arguments, subject: Subject) -> tuple[Size, Comparison]:
    """The size of the base as the data completes it, and how candidates are compared."""
    from nas.search.scale_grid import RULES, Comparison
    from nas.train.recipe_pages import find_recipe

    rule = arguments.get("rule") or "macs"
    if rule not in RULES:
        raise UsageError("unknown rule", got=rule, expected=" or ".join(RULES), hint=nearest(rule, RULES))
    seed = whole_number("seed", arguments.get("seed", "0"), least=0) or 0
    data = data_at(subject, subject.size.input, seed)
    size = replace(subject.size, input=subject.size.input or data.input_shape,
                   num_classes=subject.size.num_classes or data.num_classes)  # fmt: skip
    if (size.input, size.num_classes) != (data.input_shape, data.num_classes):
        raise UsageError("the data does not fit the network", got=f"{data.input_shape} in {data.num_classes} classes",
                         expected=f"{size.input} in {size.num_classes} classes")  # fmt: skip
    channels = data.input_shape[0]
    return size, Comparison(
        load=lambda side: data if side is None else data_at(subject, (channels, side, side), seed),
        recipe=find_recipe(arguments.get("recipe") or "quick"), rule=rule, seconds=seconds_of(arguments.get("budget")),
        device=device_of(arguments.get("device")), seed=seed,
    )  # fmt: skip


def _text(document: Mapping[str, Any]) -> str:
    if document["interrupted"]:
        return f"interrupted; the same command goes on: {document['out']}"
    family = document["family"]
    last = family[-1]
    told = ", ".join(f"{key} {value:g}" for key, value in document["coefficients"].items())
    lines = [f"{told} (alpha * beta^2 * gamma^2 = {document['product']:.3g})", ""]
    if document["grid"]:
        best = sorted(document["grid"], key=lambda row: -row["val_accuracy"])[:5]
        trained = [(f"{row['alpha']:g}", f"{row['beta']:g}", f"{row['gamma']:g}", percent(row["val_accuracy"]),
                    f"{row['macs_ratio']:.2f}x", row["epochs"]) for row in best]  # fmt: skip
        lines += [f"the best of {len(document['grid'])} candidates:",
                  table(("alpha", "beta", "gamma", "val", "MACs", "epochs"), trained), ""]  # fmt: skip
    rows = [(m["name"], _times(m["input"]), count(m["num_params"]), count(m["macs"]), milliseconds(m["latency_ms"]))
            for m in family]  # fmt: skip
    return "\n".join([*lines, table(("network", "input", "params", "MACs", "latency"), rows), "",
                      f"pages: {document['out']}; train one:",
                      f"  nas train {shlex.quote(last['page'])} data=... deploy=input={_times(last['input'])}"])  # fmt: skip


def _times(shape: list[int]) -> str:
    return "x".join(map(str, shape))
