"""A run's folder: everything needed to continue, to read and to repeat a search. Nothing is ever half-written."""

from __future__ import annotations

import csv
import errno
import io
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from nas.errors import RunError

RESULTS = Path("results")
FREE_BYTES = 50 * 2**20
"""A run does not start with less free disk than this."""

TRIAL_COLUMNS = (
    "trial", "state", "phase", "val_accuracy", "latency_ms", "latency_low_ms", "latency_high_ms", "num_params", "macs", "epochs",
    "measure_s", "train_s", "seconds", "seed", "identity", "duplicate_of", "reason",
)  # fmt: skip
"""Columns of trials.csv. Accuracies are fractions, latencies milliseconds of the deployed network, ``*_s`` seconds; ``phase``
is empty or baseline. Behind them stands what else the run judges by, in the units of :data:`nas.search.metrics.METRICS`: see
:func:`nas.search.objectives.further`."""

FRONT_COLUMNS = (
    "trial", "val_accuracy", "test_accuracy", "accuracy_mean", "accuracy_sd", "repeats", "latency_ms", "latency_low_ms",
    "latency_high_ms", "latency_again_ms", "num_params", "macs", "ties", "identity",
)  # fmt: skip
"""Columns of front.csv, in the units of trials.csv, and followed by the same; test_accuracy is empty until the search has
ended."""


BEGUN = frozenset({"weights", "checkpoints", "log.txt", "study.log", "study.log.driver", "config.yaml.driver",
                   "config.yaml.partial", ".probe", ".probe.partial"})  # fmt: skip
"""What a folder may hold in which a search ended before its configuration was written."""


class _Log(logging.FileHandler):
    """Says nothing where it cannot be written: on a full disk the study cannot either, and that error is the one to tell."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class RunFolder:
    """The folder ``results/NAME``, or any path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.environment = path / "config.yaml", path / "environment.json"
        self.study, self.log, self.tally = path / "study.log", path / "log.txt", path / "spent.bin"
        self.trials, self.front, self.best = path / "trials.csv", path / "front.csv", path / "best.yaml"
        self.weights, self.checkpoints = path / "weights", path / "checkpoints"

    @classmethod
    def find(cls, name: str) -> RunFolder:
        """An existing run by name or path. Raises RunError naming the runs there are."""
        for path in (Path(name).expanduser(), RESULTS / name):
            if (path / "config.yaml").is_file():
                return cls(path)
        known = sorted((p.parent.name for p in RESULTS.glob("*/config.yaml")), reverse=True)[:5]
        raise RunError("no such run", got=name, expected="a run's name under results/, or its folder",
                       hint=f"The latest: {', '.join(known)}." if known else "`nas search` starts one.")  # fmt: skip

    @classmethod
    def named(cls, name: str | None, space: str) -> RunFolder:
        """Where a run of that name is or will be; without a name a new one from the space and the time."""
        if name is None:
            stem = f"{Path(space).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
            names = (stem, *(f"{stem}-{i}" for i in range(2, 100)))
            return cls(RESULTS / next(n for n in names if not (RESULTS / n).exists()))
        return cls(Path(name).expanduser() if "/" in name or name in {".", ".."} else RESULTS / name)

    @property
    def exists(self) -> bool:
        """Whether a search has begun here."""
        return self.config.is_file()

    def refuse_others(self) -> None:
        """Raise RunError where the folder holds something else than a run, or than one that ended before it began."""
        if self.exists or not self.path.is_dir():
            return
        try:
            others = sorted(path.name for path in self.path.iterdir() if path.name not in BEGUN)
        except OSError as error:
            raise refusal(self.path, error) from None
        if others:
            raise RunError("this folder holds other files", where=str(self.path), got=others[0],
                           hint="Give run= a new folder, or that of a run.")  # fmt: skip

    def create(self) -> None:
        """Make the folder. Raises RunError when it cannot be written or the disk is nearly full."""
        try:
            self.weights.mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
        except OSError as error:
            raise refusal(self.path, error) from None
        probe = self.path / ".probe"
        self.write(probe, "x" * 4096)
        probe.unlink()
        stat = os.statvfs(self.path)
        if (free := stat.f_bavail * stat.f_frsize) < FREE_BYTES:
            raise RunError("the disk is nearly full", where=str(self.path), expected=f"{FREE_BYTES >> 20} MiB free",
                           got=f"{free >> 20} MiB", hint="Make room, or choose another folder with run=PATH.")  # fmt: skip

    def write(self, path: Path, text: str) -> None:
        """Replace a file's text in one step. Raises RunError when it cannot be written."""
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise refusal(path, error) from None

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Replace config.yaml."""
        self.write(self.config, yaml.safe_dump(dict(config), sort_keys=False))

    def read_config(self) -> dict[str, Any]:
        """The stored configuration. Raises RunError when it cannot be read."""
        try:
            config = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise RunError("the run's configuration cannot be read", where=str(self.config),
                           got=str(error).split("\n")[0]) from None
        if not isinstance(config, dict):
            raise RunError("the run's configuration is not a mapping", where=str(self.config))
        return config

    def write_table(self, path: Path, columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> None:
        """Replace a CSV file."""
        self.write(path, csv_text(columns, rows, header=True))

    def append_row(self, path: Path, columns: tuple[str, ...], row: Mapping[str, Any]) -> None:
        """Add a line to a CSV file in one write. Raises RunError when it cannot be written."""
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(csv_text(columns, [row], header=False))
        except OSError as error:
            raise refusal(path, error) from None

    def weights_of(self, trial: int) -> Path:
        """Where the trained weights of a trial are, if it is on the front."""
        return self.weights / f"{trial}.pt"

    def drop_weights(self, trial: int) -> None:
        """Delete a trial's weights, if there are any."""
        self.weights_of(trial).unlink(missing_ok=True)

    def keep_weights(self, trials: Iterable[int]) -> None:
        """Delete the weights of all other trials, and what killed workers left half-written."""
        kept = {self.weights_of(trial) for trial in trials}
        for path in self.weights.glob("*"):
            if path not in kept:
                path.unlink(missing_ok=True)

    def checkpoint_of(self, trial: int) -> Path:
        """Where a trial's training goes on from, while it is not over."""
        return self.checkpoints / f"{trial}.pt"

    def drop_checkpoint(self, trial: int) -> None:
        """Delete a trial's checkpoint, if there is one."""
        self.checkpoint_of(trial).unlink(missing_ok=True)

    def keep_checkpoints(self, trials: Iterable[int]) -> None:
        """Delete the checkpoints of all other trials."""
        kept = {self.checkpoint_of(trial) for trial in trials}
        for path in self.checkpoints.glob("*"):
            if path not in kept:
                path.unlink(missing_ok=True)

    def logger(self) -> logging.Logger:
        """The run's log."""
        logger = logging.getLogger(f"nas.run.{self.path.resolve()}")
        logger.propagate = False
        logger.setLevel(logging.INFO)
        if not logger.handlers:
            handler = _Log(self.log, encoding="utf-8")
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            logger.addHandler(handler)
        return logger

    def close_log(self) -> None:
        """Close the run's log; :meth:`logger` opens it again."""
        logger = logging.getLogger(f"nas.run.{self.path.resolve()}")
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()

    def write_environment(self, conditions: Mapping[str, Any]) -> list[str]:
        """Write where the run runs now; what of the hardware and torch is not as it was when the run last ran, in words."""
        now: dict[str, Any] = {**machine(), **conditions}
        before = _read_json(self.environment)
        self.write(self.environment, json.dumps(now, indent=2) + "\n")
        if before is None:
            return []
        pairs = [(key, before.get(key), now[key]) for key in ("cpu", "gpus")]
        pairs.append(("torch", (before.get("packages") or {}).get("torch"), now["packages"]["torch"]))
        return [f"{key} was {was or 'none'} and is {is_now or 'none'} now" for key, was, is_now in pairs if was != is_now]


def refusal(path: Path, error: OSError) -> RunError:
    """What to tell of a file or folder that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError("the disk is full", where=str(path),
                        hint="Make room; then `nas resume` goes on where the search stopped.")
    return RunError("cannot be written", where=str(path), got=error.strerror, hint="Choose another folder with run=PATH.")


def csv_text(columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]], *, header: bool) -> str:
    """Rows as CSV; what a row lacks is left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def machine() -> dict[str, Any]:
    """Versions and hardware that the numbers depend on."""
    import torch

    from nas.measure.device import processor_name

    packages = {}
    for name in ("nas", "torch", "optuna", "ray", "numpy"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"python": platform.python_version(), "platform": platform.platform(), "packages": packages, "cpu": processor_name(),
            "cores": len(os.sched_getaffinity(0)), "gpus": gpus}  # fmt: skip
