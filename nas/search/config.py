"""What a search is asked to do: the keys of ``nas search``, from a command line or a YAML file, checked once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from nas.errors import UsageError, nearest
from nas.net.graph import Size
from nas.search.budget import parse_budget, parse_duration
from nas.search.executors.target import Target
from nas.search.keys import KEYS
from nas.search.objectives import parse_constraint, parse_objectives
from nas.search.shares import Shares, parse_final
from nas.space.page import read_file

RESOLVED = "resolved"
"""Key of a run's config.yaml under which stands what is no word of a user; ``config=FILE`` passes over it."""

ENGINES = ("local", "ray")
"""Where trials can run."""

SIZE_WORDS = ("width", "depth", "repeats", "filters", "input", "num_classes", "batch")


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeWords:
    """A network's size as a user says it; ``repeats`` and ``filters`` are absolute, ``width`` and ``depth`` multipliers."""

    width: float | None = None
    depth: float | None = None
    repeats: int | None = None
    filters: int | None = None
    input: tuple[int, int, int] | None = None
    num_classes: int | None = None
    batch: int | None = None

    @classmethod
    def parse(cls, value: Any, key: str) -> SizeWords:
        """From a mapping or from ``word=value,word=value``. Raises UsageError."""
        if value is None:
            return cls()
        words = dict(value) if isinstance(value, Mapping) else dict(_pairs(str(value), key))
        for word in words:
            if word not in SIZE_WORDS:
                raise UsageError(f"unknown word in {key}", expected=", ".join(SIZE_WORDS), got=str(word),
                                 hint=nearest(str(word), SIZE_WORDS))  # fmt: skip
        try:
            return cls(
                width=_positive(words.get("width"), float), depth=_positive(words.get("depth"), float),
                repeats=_positive(words.get("repeats"), int), filters=_positive(words.get("filters"), int),
                input=_shape(words.get("input")), num_classes=_positive(words.get("num_classes"), int),
                batch=_positive(words.get("batch"), int),
            )  # fmt: skip
        except ValueError as error:
            raise UsageError(f"{key} cannot be read: {error}", expected="e.g. repeats=2,filters=16,input=3x32x32",
                             got=str(value)) from None  # fmt: skip

    def to_mapping(self) -> dict[str, Any]:
        """What was said, YAML-plain."""
        return {word: list(v) if isinstance(v, tuple) else v for word, v in asdict(self).items() if v is not None}


DEFAULTS = {"engine": "local", "recipe": "cifar", "formats": "py", "early_stopping": "none"}
"""Words of a configuration that go without saying."""

RUNTIME_OF = {"onnx": "onnxruntime"}
"""What runs an exported format; the others are run by torch itself, eagerly."""

STOPPING = ("none", "asha")
"""How candidates are stopped early: not at all, or by asynchronous successive halving."""


LEAST_TIMEOUT_S = 30.0
"""Of ``trial_timeout``: a training shows every ten seconds that it is alive, between two of its steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """The keys of a search. None means: chosen by the planner and printed."""

    space: str
    data: str
    budget: str
    image_size: int | None = None
    objectives: str = "accuracy,latency"
    constraint: tuple[str, ...] = ()
    strategy: str = "auto"
    target: str | None = None
    latency_table: str | None = None
    engine: str = "local"
    address: str | None = None
    endpoint: str | None = None
    workers: int | None = None
    gpus_per_trial: float | None = None
    cpus_per_trial: float | None = None
    train_on: str | None = None
    trial_timeout: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    seed: int = 0
    runtime: str | None = None
    recipe: str = "cifar"
    formats: str = "py"
    early_stopping: str = "none"
    baseline: str | None = None
    repeats: str | None = None
    peers: str | None = None
    final: str | None = None
    deploy: SizeWords = field(default_factory=SizeWords)
    proxy: SizeWords = field(default_factory=SizeWords)
    run: str | None = None
    storage: str | None = None
    log: str | None = None
    plugins: tuple[str, ...] = ()

    @classmethod
    def from_words(cls, words: Mapping[str, Any]) -> SearchConfig:
        """A checked configuration; ``config=FILE`` gives the keys that the words leave out.

        Raises UsageError for an unknown key, a missing one, or a value that cannot be read.
        """
        words = dict(words)
        file = words.pop("config", None)
        if file is not None:
            words = {**_read(Path(str(file)).expanduser(), words), **words}
        words.pop(RESOLVED, None)
        for key in words:
            if key not in KEYS:
                raise UsageError("unknown key", where=None if file is None else str(file), got=str(key),
                                 expected="one of " + ", ".join(KEYS), hint=nearest(str(key), KEYS))  # fmt: skip
        for key, example in (("space", "space=nasnet_cell"), ("budget", "budget=10min"), ("data", "data=digits")):
            if words.get(key) in (None, ""):
                raise UsageError(f"{key} is missing", expected=f"{key}=..., {KEYS[key]}", hint=f"For example: {example}")
        for key, value in words.items():
            if value == "":
                raise UsageError(f"{key} has no value", expected=f"{key}=..., {KEYS[key]}")
        config = cls(
            space=str(words["space"]), data=str(words["data"]), budget=_joined(words["budget"]),
            image_size=whole_number("image_size", words.get("image_size")),
            objectives=_joined(words.get("objectives") or "accuracy,latency"),
            constraint=_texts(words.get("constraint")),
            strategy=str(words.get("strategy") or "auto"), target=_optional(words.get("target")),
            latency_table=_optional(words.get("latency_table")),
            engine=str(words.get("engine") or "local"), address=_optional(words.get("address")),
            endpoint=_optional(words.get("endpoint")),
            gpus_per_trial=amount("gpus_per_trial", words.get("gpus_per_trial")),
            cpus_per_trial=amount("cpus_per_trial", words.get("cpus_per_trial")),
            train_on=_optional(words.get("train_on")), trial_timeout=_optional(words.get("trial_timeout")),
            workers=whole_number("workers", words.get("workers")), epochs=whole_number("epochs", words.get("epochs")),
            batch_size=whole_number("batch_size", words.get("batch_size"), least=2),
            seed=whole_number("seed", words.get("seed", 0), least=0) or 0,
            runtime=_optional(words.get("runtime")), recipe=str(words.get("recipe") or "cifar"),
            formats=_joined(words.get("formats") or "py"),
            early_stopping=str(words.get("early_stopping") or "none"), baseline=_optional(words.get("baseline")),
            repeats=_optional(words.get("repeats")), peers=_optional(words.get("peers")), final=_optional(words.get("final")),
            deploy=SizeWords.parse(words.get("deploy"), "deploy"), proxy=SizeWords.parse(words.get("proxy"), "proxy"),
            run=_optional(words.get("run")), storage=_optional(words.get("storage")), log=_optional(words.get("log")),
            plugins=_texts(words.get("plugins")),
        )  # fmt: skip
        budget = parse_budget(config.budget)
        Shares.chosen(config.shares, strategy=config.strategy, expected=budget.trials)
        if config.early_stopping not in STOPPING:
            raise UsageError("unknown early_stopping", got=config.early_stopping, expected=" or ".join(STOPPING),
                             hint=nearest(config.early_stopping, STOPPING))
        _check_engine(config)
        parse_objectives(config.objectives)
        for limit in config.constraint:
            parse_constraint(limit)
        if parse_final(config.final)[0] and not any(part.kind != "trials" for part in budget.parts):
            raise UsageError("final training needs a budget in time", got=f"budget={config.budget}",
                             expected=f"such as budget={config.budget},2h")
        return config

    @property
    def measured_by(self) -> str:
        """The runtime of measurements: the one said, else what runs the first of the formats to export."""
        return self.runtime or RUNTIME_OF.get(self.formats.split(",")[0].strip(), "eager")

    @property
    def timeout_s(self) -> float | None:
        """Seconds of silence after which a trial is ended, where it was said."""
        return None if self.trial_timeout is None else parse_duration(self.trial_timeout)

    def to_mapping(self) -> dict[str, Any]:
        """What was said, YAML-plain: ``from_words`` reads it back."""
        words = {f.name: getattr(self, f.name) for f in fields(self)}
        words["deploy"], words["proxy"] = self.deploy.to_mapping(), self.proxy.to_mapping()
        words["constraint"], words["plugins"] = list(self.constraint), list(self.plugins)
        for key, default in DEFAULTS.items():
            if words[key] == default:
                del words[key]
        return {key: value for key, value in words.items() if value not in (None, {}, [])}

    @property
    def shares(self) -> dict[str, str | None]:
        """What was said about the division of the budget."""
        return {"baseline": self.baseline, "repeats": self.repeats, "peers": self.peers, "final": self.final}

    def with_budget(self, budget: str) -> SearchConfig:
        """The same search with another budget."""
        return replace(self, budget=budget)


def _read(path: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    words: dict[str, Any] = read_file(path)
    if "config" in words:
        raise UsageError("a configuration file names no other one", where=str(path), got=f"config: {words['config']}")
    if (plugins := _texts(words.get("plugins"))) and not said.get("plugins"):
        raise UsageError("a configuration file alone runs no code", where=str(path), got=f"plugins: {', '.join(plugins)}",
                         hint=f"Add {' '.join(f'plugins={plugin}' for plugin in plugins)} to the command line.")  # fmt: skip
    return words


def as_size(words: SizeWords, base: Size) -> Size:
    """``base`` with what the words say about width, depth, input and classes."""
    return replace(base, width=words.width or base.width, depth=words.depth or base.depth,
                   input=words.input or base.input, num_classes=words.num_classes or base.num_classes)  # fmt: skip


def _pairs(text: str, key: str) -> list[tuple[str, str]]:
    pairs = []
    for part in text.split(","):
        word, sign, value = part.partition("=")
        if not sign:
            raise UsageError(f"{key} cannot be read", expected="word=value,word=value", got=text)
        pairs.append((word.strip(), value.strip()))
    return pairs


def _positive(value: Any, kind: type) -> Any:
    if value is None:
        return None
    number = kind(value)
    if isinstance(value, bool) or not 0 < number < math.inf or (kind is int and number != float(value)):
        raise ValueError(f"{value} is not a positive {'whole ' if kind is int else ''}number")
    return number


def _shape(value: Any) -> tuple[int, int, int] | None:
    if value is None:
        return None
    parts = value if isinstance(value, list | tuple) else str(value).split("x")
    sizes = [_positive(part, int) for part in parts]
    if len(sizes) != 3:
        raise ValueError(f"{value} is not channels x height x width")
    return sizes[0], sizes[1], sizes[2]


def whole_number(key: str, value: Any, least: int = 1) -> int | None:
    """A whole number of at least ``least``, or None. Raises UsageError."""
    if value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = least - 1
    if isinstance(value, bool) or number < least or str(value).strip() != str(number):
        raise UsageError(f"{key} is a whole number", expected=f"{least} or more", got=str(value))
    return number


def amount(key: str, value: Any) -> float | None:
    """A number of devices: 0, a part of one, or whole ones; or None. Raises UsageError."""
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number < math.inf or (number > 1 and number != int(number)):
        raise UsageError(f"{key} is a number of devices", expected="0, a part such as 0.5, or a whole number", got=str(value))
    return number


def _check_engine(config: SearchConfig) -> None:
    """Raises UsageError for words of one engine that are said to another."""
    if config.engine not in ENGINES:
        raise UsageError("unknown engine", got=config.engine, expected=" or ".join(ENGINES), hint=nearest(config.engine, ENGINES))
    if config.address is not None and config.engine != "ray":
        raise UsageError("address= is where a Ray cluster is", got=f"engine={config.engine}", hint="Add engine=ray.")
    if config.endpoint is not None and config.engine == "ray":
        raise UsageError("machines join a Ray cluster through Ray", got=f"endpoint={config.endpoint}",
                         hint="Run `ray start --address=...` there, or leave engine=ray out.")  # fmt: skip
    if config.trial_timeout is not None and parse_duration(config.trial_timeout) < LEAST_TIMEOUT_S:
        raise UsageError("a trial shows that it is alive every ten seconds or so", got=f"trial_timeout={config.trial_timeout}",
                         expected=f"{LEAST_TIMEOUT_S:g}s or more")  # fmt: skip
    if Target.nodes(config.train_on).elsewhere and config.engine != "ray":
        raise UsageError("only a Ray cluster has nodes to choose", got=f"train_on={config.train_on}", hint="Add engine=ray.")
    if config.target is not None and config.engine != "ray" and Target.parse(config.target).elsewhere:
        raise UsageError("only a Ray cluster has other machines to measure on", got=f"target={config.target}",
                         expected="cpu or cuda", hint="Add engine=ray.")  # fmt: skip


def _joined(value: Any) -> str:
    return value if isinstance(value, str) else ",".join(map(str, value))


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, [value] if isinstance(value, str) else value or ()))


def _optional(value: Any) -> str | None:
    return None if value is None else str(value)
