"""``nas train``."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.cli.arguments import Arguments
from nas.errors import NasError, UsageError
from nas.net.graph import Size
from nas.report.text import duration, percent
from nas.space.library import load_architecture
from nas.space.search_space import Architecture

if TYPE_CHECKING:
    from nas.export.latency import Measuring
    from nas.search.final import FinalResult
    from nas.train.data import Dataset
    from nas.train.fit import EpochResult
    from nas.train.parallel import Group
    from nas.train.recipe_pages import RecipePage

FOLDER = Path("results", "trained")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is to be trained: at which size as far as it is said, on which data, and what is known of its search.

    ``split``: the seed by which a run holds out its validation images; they are held out here too. ``measuring``: how the run
    measured latency, if it did.
    """

    name: str
    architecture: Architecture
    size: Size
    data: str | None
    split: int | None = None
    found: tuple[str, ...] = ()
    measuring: Measuring | None = None


def run(arguments: Arguments) -> dict[str, Any]:
    """Train a network to the end, export it, print its figures."""
    from nas.export.folder import parse_formats
    from nas.export.formats import check_installed
    from nas.search.config import whole_number
    from nas.train.parallel import join_group, local_device
    from nas.train.recipe_pages import load_recipe

    formats = parse_formats(arguments.get("formats"))
    check_installed(formats)
    subject = subject_of(arguments)
    if subject.data is None:
        raise UsageError("data is missing", expected="data=..., for example data=cifar10")
    device = local_device(device_of(arguments.get("device")))
    page = load_recipe(arguments.get("recipe") or "cifar")
    epochs = whole_number("epochs", arguments.get("epochs"))
    if (batch := whole_number("batch_size", arguments.get("batch_size"), least=2)) is not None:
        page = replace(page, recipe=page.recipe.batched(batch))
    seed = whole_number("seed", arguments.get("seed", "0"), least=0) or 0
    seconds = seconds_of(arguments.get("budget"))
    out = Path(arguments.get("out") or FOLDER / file_name(f"{subject.name}-{Path(subject.data).stem}-{page.name}"))
    with join_group(device) as group:
        how = {"epochs": epochs, "seconds": seconds, "seed": seed}
        data = data_at(subject, subject.size.input, seed)
        result, done = _train(arguments, subject, data, page, out, device, group, how)
        if not group.first:
            return {}
    if result is None:
        document: dict[str, Any] = {"out": str(out), "epochs": done, "interrupted": True}
    else:
        document = _exported(arguments, subject, data, result, out, formats)
    if not arguments.json:
        print(_text(document))
    return document


def _train(arguments: Arguments, subject: Subject, data: Dataset, page: RecipePage, out: Path, device: str, group: Group,
           how: dict[str, Any]) -> tuple[FinalResult | None, int]:  # fmt: skip
    """What the training came to, None where it was interrupted; and the last epoch, counted from 1."""
    from nas.measure.device import giving_way
    from nas.report.training import training_view
    from nas.search.final import train_final

    done = 0
    with training_view(sys.stderr if arguments.json else sys.stdout) if group.first else nullcontext() as show:

        def on_epoch(epoch: EpochResult, epochs: int) -> None:
            nonlocal done
            done = epoch.epoch + 1
            if show is not None:
                show(epoch, epochs)

        try:
            with giving_way(device) as on_step:
                result = train_final(subject.architecture, subject.size, data, page, folder=out, name=subject.name,
                                     device=device, on_epoch=on_epoch, on_step=on_step, group=group, **how)  # fmt: skip
        except KeyboardInterrupt:  # at any moment: what was not saved is one epoch at most
            return None, done
    return result, done


def _exported(arguments: Arguments, subject: Subject, data: Dataset, result: FinalResult, out: Path,
              formats: tuple[str, ...]) -> dict[str, Any]:  # fmt: skip
    from nas.cli.export import document_of
    from nas.export.final import export_final
    from nas.export.latency import Measuring, further

    words = [*arguments.words, *(f"{key}={value}" for key, value in arguments.keys.items() if isinstance(value, str))]
    measuring = subject.measuring or (Measuring() if further(formats) else None)
    exported = export_final(result, out / "export", data=data, formats=formats, found=subject.found,
                            command=f"nas train {shlex.join(words)}", measuring=measuring)  # fmt: skip
    metrics = dict(result.metrics or {})
    told = ("name", "num_params", "macs", "weights", "recipe_name", "epochs", "best_epoch", "val_accuracy",
            "last_val_accuracy", "test_accuracy", "train_s", "seed", "conditions")  # fmt: skip
    return {**document_of(exported), "out": str(out), **{word: metrics[word] for word in told}, "interrupted": False}


def subject_of(arguments: Arguments) -> Subject:
    """What a command line names: a run's trial at the size it is to be deployed at, or a page. Raises UsageError."""
    from nas.search.run import RunFolder

    what, trial = arguments.words[0], arguments.get("trial")
    try:
        RunFolder.find(what)
    except NasError:
        if trial is not None:
            raise
        architecture = load_architecture(what)
        return Subject(name=architecture.name, architecture=architecture, size=_size(arguments, architecture, Size()),
                       data=arguments.get("data") or None)  # fmt: skip
    return _of_run(arguments, what, trial or "best")


def _of_run(arguments: Arguments, what: str, trial: str) -> Subject:
    from nas.export.latency import Measuring
    from nas.export.origin import found_lines
    from nas.search.archive import open_archive

    with open_archive(what) as archive:
        record = archive.pick(trial)
        architecture = archive.study.space.architecture(record.decisions)
        words = {word: getattr(archive.config, word) for word in ("space", "data", "budget")}
        found = found_lines(words, record, archive.checks)
        measured = "latency" in record.metrics
        name = f"{archive.folder.path.resolve().name}-{record.number}"
        return Subject(name=name, architecture=architecture, size=_size(arguments, architecture, archive.deploy),
                       data=arguments.get("data") or archive.config.data, split=archive.config.seed,
                       found=tuple(found),
                       measuring=Measuring.of_run(archive.config, archive.folder.path) if measured else None)  # fmt: skip


def _size(arguments: Arguments, architecture: Architecture, base: Size) -> Size:
    """``base`` as ``deploy=`` changes it; other data than a run's brings its own input and classes."""
    from nas.search.config import SizeWords, as_size
    from nas.search.planner import multipliers

    if arguments.get("data") is not None:
        base = replace(base, input=None, num_classes=None)
    return as_size(multipliers(architecture.spec, SizeWords.parse(arguments.get("deploy"), "deploy")), base)


def data_at(subject: Subject, shape: tuple[int, int, int] | None, seed: int) -> Dataset:
    """The subject's data set, scaled to a shape where one is said; split by ``seed`` unless a run has split it.

    Raises UsageError for a shape that is not square, unless the images have it.
    """
    from nas.train.data import load_data

    seed = seed if subject.split is None else subject.split
    if shape is not None and shape[1] != shape[2]:
        data = load_data(subject.data or "", seed=seed)
        if data.input_shape != shape:
            raise UsageError("images are scaled to squares", got="x".join(map(str, shape)))
        return data
    return load_data(subject.data or "", seed=seed, image_size=None if shape is None else shape[1])


def device_of(word: str | None) -> str:
    """cpu or cuda; by default cuda where there is one. Raises UsageError."""
    import torch

    word = word or ("cuda" if torch.cuda.is_available() else "cpu")
    match = re.fullmatch(r"cpu|cuda(?::(\d+))?", word)
    if match is None or (word != "cpu" and int(match[1] or 0) >= torch.cuda.device_count()):
        raise UsageError("there is no such device to train on", got=f"device={word}",
                         expected="cpu, or cuda on a machine with a GPU")  # fmt: skip
    return word


def seconds_of(text: str | None) -> float | None:
    """The seconds of a budget in wall time. Raises UsageError for one in anything else."""
    from nas.search.budget import parse_budget

    if text is None:
        return None
    budget = parse_budget(text)
    seconds = budget.limit("wall")
    if seconds is None or len(budget.parts) > 1:
        raise UsageError("this budget is wall time", got=f"budget={text}", expected="such as budget=30min or budget=8h")
    return seconds


def file_name(text: str) -> str:
    """The text as a file may be called."""
    return re.sub(r"[^\w.-]+", "_", text).strip(".")


def _text(document: Mapping[str, Any]) -> str:
    from nas.cli.export import findings

    if document["interrupted"]:
        return f"interrupted after epoch {document['epochs']}; the same command goes on: {document['out']}"
    return "\n".join([
        f"{document['name']}: {percent(document['val_accuracy'])} on validation (epoch {document['best_epoch']} of"
        f" {document['epochs']}; the last: {percent(document['last_val_accuracy'])}),"
        f" {percent(document['test_accuracy'])} on test",
        f"weights: {document['weights']}, recipe {document['recipe_name']}, in {duration(document['train_s'])}",
        f"folder: {document['out']} (best.pt, last.pt, architecture.yaml, metrics.json, export/)",
        *findings(document),
        f"prove it: python {shlex.quote(document['out'] + '/export/test_network.py')}",
    ])  # fmt: skip
