"""Policies as tests: permissive licences, no code from data, a word about every public name."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "nas").rglob("*.py"))

PERMISSIVE = re.compile(
    r"\b(MIT(-CMU|-0)?|BSD|[0-3]BSD|0BSD|Apache|PSF|Python Software Foundation|Python-2\.0|ISC|MPL|Mozilla|HPND|"
    r"Historical Permission|Unlicense|Zlib|CC0|Public Domain|BSL|Boost)\b", re.IGNORECASE)  # fmt: skip
COPYLEFT = re.compile(r"\b(A?GPL|LGPL|GNU|SSPL|EUPL|Affero|Copyleft)(v?\d|\b)", re.IGNORECASE)


def requirements(names: list[str], extras: set[str]) -> Iterator[Requirement]:
    for text in names:
        requirement = Requirement(text)
        environments = [{**default_environment(), "extra": extra} for extra in extras or {""}]
        if requirement.marker is None or any(requirement.marker.evaluate(e) for e in environments):
            yield requirement


def dependencies() -> dict[str, metadata.Distribution]:
    """Everything installed that the package needs, directly or not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = list(requirements(project["dependencies"], set()))
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = (requirement.name.lower().replace("_", "-"), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            distribution = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:
            continue
        found[key[0]] = distribution
        waiting += requirements(distribution.requires or [], set(requirement.extras))
    return found


DEPENDENCIES = dependencies()


def licence_of(distribution: metadata.Distribution) -> str:
    """What the metadata says, expression and classifiers first; a full text only by its first lines."""
    about = distribution.metadata
    classifiers = [c.split("::")[-1] for c in about.get_all("Classifier") or [] if c.startswith("License")]
    said = [about.get("License-Expression") or "", *classifiers]
    text = about.get("License") or ""
    return "; ".join(filter(None, [*said, "" if any(said) else text[:200]]))


def acceptable(licence: str) -> bool:
    """Permissive; where a copyleft licence is offered beside a permissive one with `or`, that one is taken."""
    choices = re.split(r"\s+or\s+", licence, flags=re.IGNORECASE)
    return any(PERMISSIVE.search(choice) and not COPYLEFT.search(choice) for choice in choices)


@pytest.mark.parametrize("name", sorted(DEPENDENCIES))
def test_dependencies_are_permissively_licensed(name: str) -> None:
    licence = licence_of(DEPENDENCIES[name])
    assert acceptable(licence), licence


def test_direct_dependencies_were_found() -> None:
    assert {"torch", "optuna", "ray", "numpy", "pyyaml"} <= set(DEPENDENCIES)


@pytest.mark.parametrize(("licence", "fine"), [
    ("MIT", True), ("Apache-2.0 AND BSD-3-Clause", True), ("BSD License", True), ("GPL-3.0-only OR MIT", True), ("MPL-2.0", True),
    ("GPL-3.0-only", False), ("AGPLv3", False), ("LGPL-2.1", False), ("MIT AND GPL-2.0", False), ("", False),
    ("GNU General Public License v3 (GPLv3)", False), ("Proprietary", False),
])  # fmt: skip
def test_licences_are_told_apart(licence: str, fine: bool) -> None:
    assert acceptable(licence) is fine


# -- no code from data ---------------------------------------------------------------------------------------------------

FORBIDDEN = {"eval", "exec", "compile", "pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load",
             "cloudpickle.loads", "dill.load", "dill.loads", "marshal.load", "marshal.loads", "joblib.load", "yaml.load",
             "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "os.system", "__import__", "shelve.open",
             "pandas.read_pickle", "pd.read_pickle"}  # fmt: skip


def dangers(tree: ast.AST) -> Iterator[str]:
    """Calls that run code from data."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        words = {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg}
        if (
            name in FORBIDDEN
            or (name == "torch.load" and words.get("weights_only") != "True")
            or (name in ("np.load", "numpy.load") and words.get("allow_pickle", "False") != "False")
            or words.get("shell") == "True"
        ):
            yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_runs_code_from_data(file: Path) -> None:
    assert list(dangers(ast.parse(file.read_text()))) == []


@pytest.mark.parametrize("code", ["pickle.load(f)", "torch.load(f)", "torch.load(f, weights_only=False)", "eval('1')",
                                  "yaml.load(f)", "np.load(f, allow_pickle=True)", "subprocess.run(c, shell=True)"])  # fmt: skip
def test_dangers_are_seen(code: str) -> None:
    assert list(dangers(ast.parse(code)))
    assert not list(dangers(ast.parse("torch.load(f, weights_only=True); np.load(f); model.eval()")))


# -- docstrings ----------------------------------------------------------------------------------------------------------


def undocumented(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    """Public modules, classes, functions and methods without a word; methods of an heir may be their base's."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef) and not node.bases:
                yield from undocumented(node.body, f"{prefix}{node.name}.")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_public_name_is_documented(file: Path) -> None:
    tree = ast.parse(file.read_text())
    assert ast.get_docstring(tree) or not tree.body, "the module has no docstring"
    assert list(undocumented(tree.body)) == []
