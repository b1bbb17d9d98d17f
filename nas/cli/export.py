"""``nas export``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from nas.cli.arguments import Arguments
from nas.errors import NasError, RunError, nearest
from nas.export import Exported, export_folder
from nas.export.batch import Batch, batch_of
from nas.export.folder import parse_formats
from nas.export.latency import Measuring, as_words, further
from nas.export.origin import accuracy_lines, found_lines, page_head, trial_head
from nas.measure.latency import Latency
from nas.measure.metrics import told_by
from nas.net.lower import lower
from nas.ops.plugins import on_command_line
from nas.report.run.document import command
from nas.report.text import milliseconds, table
from nas.search.archive import Archive, open_archive
from nas.search.run import RunFolder
from nas.search.study import Record
from nas.space.library import bundled_architectures, bundled_spaces, load_architecture
from nas.space.search_space import Architecture


def run(arguments: Arguments) -> dict[str, Any]:
    """Export a trial of a run, its whole front, or a page."""
    what, out, trial = arguments.words[0], arguments.get("out"), arguments.get("trial")
    formats = parse_formats(arguments.get("formats"))
    try:
        RunFolder.find(what)
    except NasError as no_run:
        if trial is not None:
            raise
        if not Path(what).expanduser().is_file() and what not in {**bundled_spaces(), **bundled_architectures()}:
            raise RunError("no run, architecture or page of that name", got=what,
                           expected="a run's name under results/ or its folder, a name that `nas spaces --architectures` lists, "
                           "or a YAML file", hint=nearest(what, bundled_architectures()) or no_run.hint) from None  # fmt: skip
        networks = [_export_page(what, out, formats)]
    else:
        with open_archive(what) as archive:
            networks = _FromRun(archive, formats).export(trial or "best", out)
    if not arguments.json:
        print("\n".join(map(_text, networks)))
    return {"networks": networks}


def _export_page(what: str, out: str | None, formats: tuple[str, ...]) -> dict[str, Any]:
    architecture = load_architecture(what)
    graph = lower(architecture)
    metrics = {"num_params": graph.num_params, "macs": graph.macs}
    folder = Path(out or Path("export", re.sub(r"\W+", "_", architecture.name)))
    exported = export_folder(architecture.spec, folder, head=page_head(architecture.spec, graph), metrics=metrics,
                             formats=formats, measuring=Measuring() if further(formats) else None)  # fmt: skip
    return {**metrics, **document_of(exported), "weights": "none"}


class _FromRun:
    """Exports of a run's trials; its data is read once."""

    def __init__(self, archive: Archive, formats: tuple[str, ...]) -> None:
        self.archive, self.formats, self.name = archive, formats, archive.folder.path.resolve().name

    def export(self, trial: str, out: str | None) -> list[dict[str, Any]]:
        if trial != "all-front":
            record = self.archive.pick(trial)
            return [self._trial(record, Path(out or f"export/{self.name}-{record.number}"))]
        if not (records := self.archive.front()):
            raise RunError("no trial of this run is completed and within its limits", where=str(self.archive.folder.path))
        folder = Path(out or f"export/{self.name}-front")
        return [self._trial(record, folder / f"trial-{record.number}") for record in records]

    @cached_property
    def batch(self) -> Batch | str:
        """Labelled images of the run's validation split, or why there are none."""
        config = self.archive.config
        try:
            return batch_of(config.data, seed=config.seed, fingerprint=self.archive.fingerprint, image_size=config.image_size)
        except NasError as error:
            return str(error)

    def _trial(self, record: Record, folder: Path) -> dict[str, Any]:
        from nas.search.front import at_size

        archive, config = self.archive, self.archive.config
        spec = at_size(archive.study.space.architecture(record.decisions), archive.deploy, f"{self.name}-{record.number}")
        graph = lower(Architecture(spec))
        weights = archive.folder.weights_of(record.number)
        trained = archive.deploy == archive.proxy and weights.exists()
        said = "proxy-trained" if trained else "none"
        words = {word: getattr(config, word) for word in ("space", "data", "budget", "seed", "strategy")}
        test, again = archive.tested.get(record.number), archive.checks.again.get(record.number)
        metrics = {
            "trial": record.number, **words, "trial_seed": record.seed, **record.metrics, "test_accuracy": test,
            "repeats": archive.checks.repeats.get(record.number, []), "num_params": graph.num_params, "macs": graph.macs,
            "weights": said, "latency_conditions": record.attrs.get("latency"), "latency_again": again,
        }  # fmt: skip
        stored = archive.study.metadata
        accuracy = accuracy_lines(record, images=stored.get("val_images"), test=test, test_images=stored.get("test_images"),
                                  repeats=metrics["repeats"])  # fmt: skip
        made = f"nas export {shlex.quote(str(archive.folder.path))} trial={record.number}{on_command_line(config.plugins)}"
        head = trial_head(spec, graph, found=found_lines(words, record, archive.checks), accuracy=accuracy, trained=trained,
                          command=command(config), made=made)  # fmt: skip
        batch = self.batch if trained else "there are no trained weights"
        measured = "latency" in record.metrics or further(self.formats)
        exported = export_folder(spec, folder, head=head, metrics=metrics, weights=weights if trained else None,
                                 formats=self.formats, batch=None if isinstance(batch, str) else batch,
                                 measuring=Measuring.of_run(config, archive.folder.path) if measured else None)  # fmt: skip
        return {**metrics, **document_of(exported), "weights": said, "broken": self._broken(exported),
                "accuracy_not_tested": batch if isinstance(batch, str) else None}  # fmt: skip

    def _broken(self, exported: Exported) -> list[str]:
        """The run's limits on its times that the exported network does not keep."""
        if not isinstance(latency := exported.latencies.get("py"), Latency):
            return []
        now = told_by(latency)
        return [str(limit) for limit in self.archive.constraints if limit.metric in now and limit.violation(now) > 0]


def document_of(exported: Exported) -> dict[str, Any]:
    """What was written, and what was found when it was."""
    return {
        "out": str(exported.folder), "files": list(map(str, exported.files)), "checks": dict(exported.checks),
        "formats": as_words(exported.latencies, exported.checks),
        "stored_images": None if exported.right is None else dict(zip(("right", "images"), exported.right, strict=True)),
    }  # fmt: skip


def findings(document: Mapping[str, Any]) -> list[str]:
    """The checks, the latencies as a table, and what the test will count, for people."""
    lines = [f"  {name}: {check}" for name, check in document["checks"].items()]
    found = {name: words["latency"] for name, words in document["formats"].items() if "latency" in words}
    rows = [(name, milliseconds(c["median_ms"]), f"{c['low_ms']:.3g} to {c['high_ms']:.3g}", c["n"],
             f"{c['runtime']} {c['runtime_version']}", f"{c['device_name']}, batch {c['batch']}, {c['dtype']},"
             f" threads: {c['threads']}, {c['memory_format']}") for name, c in found.items()]  # fmt: skip
    if rows:
        heads = ("format", "latency", "95 % interval", "n", "runtime", "conditions")
        lines += [f"  {line}" for line in table(heads, rows).split("\n")]
    lines += [f"  {name}: latency not measured: {words['refused']}" for name, words in document["formats"].items()
              if "refused" in words]  # fmt: skip
    if (images := document["stored_images"]) is not None:
        of = f"{images['right']} of {images['images']}"
        lines.append(f"  right on {of} stored images of the validation split; the test counts again")
    return lines


def _text(document: dict[str, Any]) -> str:
    said = {
        "none": "without weights: the network at this size has not been trained",
        "proxy-trained": "weights are proxy-trained: from the search's short training",
    }[document["weights"]]
    pretrained = 'pretrained="weights.pt"' if document["weights"] != "none" else ""
    untested = document.get("accuracy_not_tested") if document["weights"] != "none" else None
    return "\n".join([
        f"{document['out']}: {', '.join(Path(f).name for f in document['files'])} ({said})",
        *findings(document),
        *([f"  over the run's limit, as measured now: {', '.join(document['broken'])}"] if document.get("broken") else []),
        *([f"  the test does not count accuracy: {untested}"] if untested else []),
        f"  use it: from network import build; network = build({pretrained})",
        f"  prove it: python {shlex.quote(document['out'] + '/test_network.py')}",
    ])  # fmt: skip
