"""A search with everything chosen: what config.yaml holds, and what a resumed run and its readers need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nas.errors import NasError, RunError
from nas.net.graph import Size
from nas.ops import plugins
from nas.search.config import DEFAULTS, RESOLVED, SIZE_WORDS, SearchConfig, SizeWords
from nas.search.evaluator import size_of
from nas.search.objectives import Constraint, Objective, page_limits, parse_constraint, parse_objectives
from nas.search.planner import Plan, multipliers
from nas.search.run import RunFolder
from nas.search.shares import Shares
from nas.space.library import load_space
from nas.space.parse import parse_page
from nas.space.search_space import SearchSpace
from nas.space.spec import Spec
from nas.space.unparse import to_page
from nas.train.recipe import Recipe
from nas.train.recipe_pages import bundled_recipes
from nas.train.sources import NAMED


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A configuration in which nothing is left to choose, and what the choices were made from.

    ``name`` is the study's name in its storage, ``fingerprint`` the data's. ``digests`` tell the contents of the plugins' and the
    recipe's files by their paths: a run that goes on knows them wherever they lie then, as in the folder of another job.
    """

    config: SearchConfig
    name: str
    device: str
    space: SearchSpace
    fingerprint: str
    plan: Plan
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def shares(self) -> Shares:
        """How the budget is divided."""
        return Shares.chosen(self.config.shares, strategy=self.config.strategy, expected=None)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What the search is for."""
        return parse_objectives(self.config.objectives)

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The limits that were asked for, and those that the space's page states."""
        return limits_of(self.config, self.space.spec)

    @classmethod
    def make(cls, config: SearchConfig, *, name: str, device: str, space: SearchSpace, fingerprint: str, plan: Plan,
             shares: Shares) -> Settled:  # fmt: skip
        """With the plan's choices and absolute paths written into the configuration, as if they had been typed."""
        said = shares.to_mapping()
        config = replace(
            config, plugins=tuple(map(plugins.absolute, config.plugins)), data=absolute(config.data),
            recipe=absolute_recipe(config.recipe), storage=absolute_storage(config.storage), target=config.target or device,
            runtime=config.measured_by, latency_table=absolute_file(config.latency_table),
            epochs=plan.recipe.epochs, batch_size=plan.recipe.batch_size, deploy=_words(plan.deploy, plan.batch),
            proxy=_words(plan.proxy),
            baseline=said["baseline"], repeats=said["repeats"], peers=said["peers"], final=said["final"],
        )  # fmt: skip
        digests = {path: digest for path in _files(config) if (digest := plugins.file_digest(path))}
        return cls(config=config, name=name, device=device, space=space, fingerprint=fingerprint, plan=plan, digests=digests)

    def with_recipe(self, word: str) -> Settled:
        """With the same recipe under the path that is said now, if one is."""
        if word == DEFAULTS["recipe"]:
            return self
        path = absolute_recipe(word)
        return replace(self, config=replace(self.config, recipe=path), digests=_moved(self.digests, {self.config.recipe: path}))

    def to_mapping(self) -> dict[str, Any]:
        """YAML-plain; :meth:`from_mapping` reads it back, and ``config=FILE`` reads all but the last key."""
        plan = {"deploy": size_words(self.plan.deploy), "proxy": size_words(self.plan.proxy), "batch": self.plan.batch,
                "epoch_s": round(self.plan.epoch_s, 6), "recipe": self.plan.recipe.to_mapping()}  # fmt: skip
        return {**self.config.to_mapping(), RESOLVED: {
            "study": self.name, "device": self.device, "data_fingerprint": self.fingerprint, "plan": plan,
            "page": to_page(self.space.spec), "digests": dict(self.digests),
        }}  # fmt: skip

    @classmethod
    def read(cls, folder: RunFolder) -> Settled:
        """Of a run that has begun. Raises RunError."""
        return cls.from_mapping(folder.read_config(), str(folder.config))

    @classmethod
    def from_mapping(cls, words: Mapping[str, Any], where: str) -> Settled:
        """Raises RunError when something is missing or cannot be read."""
        try:
            resolved, config = words[RESOLVED], SearchConfig.from_words(words)
            plan, digests = resolved["plan"], {**resolved.get("digests", {})}
            loaded = _loaded(config.plugins, digests, where)
            return cls(
                config=replace(config, plugins=tuple(loaded.values())), digests=_moved(digests, loaded),
                name=resolved["study"], device=resolved["device"],
                space=SearchSpace(parse_page(resolved["page"])), fingerprint=resolved["data_fingerprint"],
                plan=Plan(deploy=size_of(plan["deploy"]), proxy=size_of(plan["proxy"]), batch=plan["batch"],
                          epoch_s=plan["epoch_s"],
                          recipe=Recipe.from_mapping(plan["recipe"]), notes=()),
            )  # fmt: skip
        except RunError:
            raise
        except NasError as error:
            raise RunError(f"the run's configuration is damaged: {error}", where=where) from None
        except (KeyError, TypeError, IndexError) as error:
            raise RunError("the run's configuration is damaged", where=where, got=f"{type(error).__name__}: {error}") from None


def _loaded(needed: tuple[str, ...], digests: Mapping[str, str], where: str) -> dict[str, str]:
    """A run's plugins and the paths they are loaded from: by who reads the run, never because its folder says so.

    Raises RunError when one is not loaded, or has changed.
    """
    found = {plugin: plugins.loaded_as(plugin, digests.get(plugin)) for plugin in needed}
    if missing := [plugin for plugin, path in found.items() if path is None]:
        raise RunError("this run has operations of a plugin that is not loaded", where=where, got=missing[0],
                       hint=f"Add{plugins.on_command_line(missing)} to the command line, or where that file lies now, "
                            "if you trust it: a run alone runs no code.")  # fmt: skip
    return {plugin: path for plugin, path in found.items() if path is not None}


def _files(config: SearchConfig) -> list[str]:
    """The plugins and the recipe that are files and no names."""
    return [path for path in (*config.plugins, config.recipe) if Path(path).is_absolute()]


def _moved(digests: Mapping[str, str], paths: Mapping[str, str]) -> dict[str, str]:
    return {paths.get(path, path): digest for path, digest in digests.items()}


def check_same(run: Settled, asked: SearchConfig, folder: RunFolder) -> None:
    """Raise RunError when a run is continued with words that make it another search. What is not said is
    not compared, but for objectives, limits and the seed."""
    shares = Shares.chosen(asked.shares, strategy=asked.strategy, expected=None)
    said: list[tuple[str, Any, Any]] = [
        ("space", run.space.spec, load_space(asked.space).spec), ("data", run.config.data, absolute(asked.data)),
        ("storage", run.config.storage, absolute_storage(asked.storage)),
        ("strategy", run.config.strategy, None if asked.strategy == "auto" else asked.strategy),
        *((key, getattr(run.config, key), getattr(asked, key))
          for key in ("objectives", "constraint", "seed", "epochs", "batch_size", "image_size", "target")),
        *((key, getattr(run.config, key), None if getattr(asked, key) == DEFAULTS[key] else getattr(asked, key))
          for key in ("engine", "early_stopping", "formats")),
        ("runtime", run.config.measured_by, asked.runtime),
        ("latency_table", run.config.latency_table, absolute_file(asked.latency_table)),
        ("recipe", run.config.recipe, _recipe_now(run, asked)),
        *((key, run.shares.to_mapping()[key], asked.shares[key] and shares.to_mapping()[key]) for key in asked.shares),
    ]  # fmt: skip
    for key in ("deploy", "proxy"):
        before, now = getattr(run.config, key), multipliers(run.space.spec, getattr(asked, key))
        said += [(f"{key}={word}", getattr(before, word), getattr(now, word)) for word in SIZE_WORDS]
    for key, before, now in said:
        if now is not None and before != now:
            got, expected = (None, None) if key == "space" else (str(now), str(before))
            raise RunError(f"this run has another {key}", where=str(folder.path), expected=expected, got=got,
                           hint="Go on with `nas resume`, or choose another run=.")  # fmt: skip


def _recipe_now(run: Settled, asked: SearchConfig) -> str | None:
    """None where no recipe is said; the run's own where the content is the same; another word otherwise."""
    if asked.recipe == DEFAULTS["recipe"]:
        return None
    path, known = absolute_recipe(asked.recipe), run.digests.get(run.config.recipe)
    if known is None:
        return path
    return run.config.recipe if plugins.file_digest(path) == known else f"{path}, which says something else"


def limits_of(config: SearchConfig, spec: Spec) -> tuple[Constraint, ...]:
    """The limits that the command line and the page set. Raises UsageError, with the page's place where it is to blame."""
    return tuple(dict.fromkeys((*map(parse_constraint, config.constraint), *page_limits(spec))))


def absolute(data: str) -> str:
    """A data source that is a file or folder as an absolute path; others as they are."""
    path = Path(data).expanduser()
    named = data == "digits" or data in NAMED or ":" in data
    return data if named or not path.exists() else str(path.resolve())


def absolute_recipe(word: str) -> str:
    """A recipe's file as an absolute path; a bundled name as it is."""
    return word if word in bundled_recipes() else str(Path(word).expanduser().resolve())


def absolute_file(file: str | None) -> str | None:
    """A file as an absolute path."""
    return None if file is None else str(Path(file).expanduser().resolve())


def absolute_storage(storage: str | None) -> str | None:
    """A storage that is a file with an absolute path; others as they are."""
    if storage is None or storage.startswith("sqlite:////") or ("://" in storage and not storage.startswith("sqlite:///")):
        return storage
    prefix = "sqlite:///" if storage.startswith("sqlite:///") else ""
    return prefix + str(Path(storage.removeprefix(prefix)).expanduser().resolve())


def size_words(size: Size) -> dict[str, Any]:
    """A size as plain words, for payloads and the configuration."""
    return {"width": size.width, "depth": size.depth, "input": list(size.input or ()), "num_classes": size.num_classes}


def _words(size: Size, batch: int | None = None) -> SizeWords:
    return SizeWords(width=size.width, depth=size.depth, input=size.input, num_classes=size.num_classes, batch=batch)
