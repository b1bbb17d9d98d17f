"""Operations of a user's own: decorated modules in a file of theirs, or in an installed package.

::

    import nas

    @nas.op("scaled_conv")
    class ScaledConv(nn.Module):
        def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None: ...

Words, defaults and kinds of values are read from the constructor, the number of inputs from ``forward``. Nothing is
loaded unless it is asked for by name (``plugins=my_ops.py`` on a command line, :func:`load_plugins` in Python): a page
that names such an operation runs no code.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2b
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from nas.errors import RunError, SpaceError, UsageError, nearest
from nas.ops.catalogue import ALIASES, FROM_WIRING, OPS, OpSpec, SketchFunction, register
from nas.ops.measured import measure, tell

if TYPE_CHECKING:
    from torch import nn

M = TypeVar("M", bound="type[nn.Module]")

GROUP = "nas.ops"
"""Entry points of this group name a module of operations; ``plugins=NAME`` loads one."""

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")
_MEASURED = 10_000
"""How many measured calls an operation without a sketch remembers."""


def op(name: str, *, sketch: SketchFunction | None = None, scaled: tuple[str, ...] = ("out_channels",),
       commutative: bool = False, ordered: bool = True) -> Callable[[M], M]:  # fmt: skip
    """Enter a module class as an operation.

    ``sketch(s, **words)`` tells shape and costs as :mod:`nas.ops.sketch` does; without one the module is built on the
    meta device and torch counts, once for each set of words and shapes. ``scaled`` names the words that a width
    multiplier scales; ``commutative``: the inputs may be swapped; ``ordered=False``: the order of the input's channels
    does not matter but for a relabelling of the module's weights. Raises SpaceError for a class that cannot be one.
    """

    def enter(module: M) -> M:
        register(_spec(name, module, sketch, scaled, commutative, ordered))
        return module

    return enter


def load_plugins(plugins: Iterable[str]) -> None:
    """Load files (``my_ops.py``, a path) and entry points of the group ``nas.ops`` (by name), each once a process.

    Operations of a file are then known by their names and as ``my_ops.py:ScaledConv``, those of an entry point as
    ``NAME:ScaledConv``. Raises UsageError for what is not there, SpaceError for what cannot be loaded.
    """
    for plugin in plugins:
        if not is_loaded(plugin):
            _load(plugin)


def is_loaded(plugin: str) -> bool:
    """Whether that entry point or file has been loaded, or a copy of the file."""
    return absolute(plugin) in _LOADED or _twin(plugin, file_digest(plugin)) is not None


def loaded_as(plugin: str, digest: str | None) -> str | None:
    """Under which path a file was loaded that had this content, wherever it lay then; None where it was not loaded.

    Without a digest its path alone tells, as an entry point's name does. Raises RunError when what was loaded has its name and
    another content.
    """
    if digest is None:
        return plugin if absolute(plugin) in _LOADED else None
    if (twin := _twin(plugin, digest)) is None and (other := next(filter(_namesake(plugin), _LOADED), None)) is not None:
        raise RunError("the plugin is not what this run began with", where=other, hint="Restore the file, or start a new run.")
    return twin


def file_digest(path: str) -> str | None:
    """What tells a file's content; None where there is none."""
    try:
        return blake2b(Path(path).expanduser().read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return None


def absolute(plugin: str) -> str:
    """A file as an absolute path; an entry point's name as it is."""
    return str(Path(plugin).expanduser().resolve()) if _is_file(plugin) else plugin


def on_command_line(plugins: Iterable[str]) -> str:
    """The words that load them, each after a blank."""
    return "".join(f" plugins={shlex.quote(plugin)}" for plugin in plugins)


_LOADED: dict[str, str | None] = {}  # files by their absolute paths, with what tells their content; entry points by their names


def _twin(plugin: str, digest: str | None) -> str | None:
    """The loaded file of that name and content."""
    return next((path for path in filter(_namesake(plugin), _LOADED) if digest is not None and _LOADED[path] == digest), None)


def _namesake(plugin: str) -> Callable[[str], bool]:
    return lambda path: Path(path).name == Path(plugin).name


def _is_file(plugin: str) -> bool:
    return plugin.endswith(".py") or "/" in plugin


def _load(plugin: str) -> None:
    path = Path(absolute(plugin))
    prefix = path.name if _is_file(plugin) else plugin
    with _all_or_nothing(prefix):
        if _is_file(plugin):
            module = _import_file(path)
        else:
            module = _entry_point(plugin).module
            _guard(plugin, lambda: importlib.import_module(module))
        for name, spec in OPS.items():
            home, _, class_name = spec.module.partition(":")
            if home == module or home.startswith(f"{module}."):
                _alias(f"{prefix}:{class_name}", name)
    _LOADED[absolute(plugin)] = file_digest(plugin) if _is_file(plugin) else None


@contextmanager
def _all_or_nothing(prefix: str) -> Iterator[None]:
    """A plugin that fails leaves no operation behind, and one without an operation is a mistake."""
    ops, aliases = dict(OPS), dict(ALIASES)
    try:
        yield
        if not any(alias.startswith(f"{prefix}:") for alias in ALIASES):
            raise SpaceError("no operation in it", where=prefix, expected='a class under @nas.op("name")')
    except BaseException:
        for table, before in ((OPS, ops), (ALIASES, aliases)):
            for new in [key for key in table if key not in before]:
                del table[new]
        raise


def _alias(alias: str, name: str) -> None:
    if alias in ALIASES:
        raise SpaceError(f"{alias} is already defined", hint="Two files of one name: rename one of them.")
    ALIASES[alias] = name


def _import_file(path: Path) -> str:
    """Run a file as a module of a name that no other has; that name."""
    if not path.is_file():
        raise UsageError("no such plugin", got=str(path), expected="plugins=my_ops.py, a Python file")
    digits = blake2b(str(path).encode(), digest_size=4).hexdigest()
    name = "_".join(["nas_plugin", re.sub(r"\W", "_", path.stem), digits])
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise UsageError("not a Python file", got=str(path), expected="a name that ends in .py")
    module = importlib.util.module_from_spec(found)
    loader = found.loader
    sys.modules[name] = module
    try:
        _guard(path.name, lambda: loader.exec_module(module), str(path))
    except BaseException:
        del sys.modules[name]
        raise
    return name


def _entry_point(name: str) -> EntryPoint:
    known = entry_points(group=GROUP)
    if name not in known.names:
        raise UsageError("no such plugin", got=name, expected="a Python file (my_ops.py), or an installed entry point of "
                         f"the group {GROUP}", hint=nearest(name, known.names))  # fmt: skip
    return known[name]


def _guard(plugin: str, run: Callable[[], Any], file: str | None = None) -> None:
    """Run a user's code; its error as one message with its line."""
    try:
        run()
    except SpaceError as error:
        raise error.at(plugin) from None
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        raise SpaceError("the plugin cannot be loaded", where=f"{plugin}:{line}" if line else plugin,
                         got=f"{type(error).__name__}: {error}") from None  # fmt: skip


def _spec(name: str, module: M, sketch: SketchFunction | None, scaled: tuple[str, ...], commutative: bool,
          ordered: bool) -> OpSpec:  # fmt: skip
    if not _NAME.fullmatch(name):
        raise SpaceError("not an operation's name", got=name, expected="a letter, then letters, digits and _")
    if not isinstance(module, type) or module.__qualname__ != module.__name__:
        raise SpaceError(f"{name} is no class at the top level of its file")
    parameters = _parameters(name, module)
    takes = tuple(word for word in parameters if word in FROM_WIRING)
    words = {word: p for word, p in parameters.items() if word not in takes}
    defaults = {word: p.default for word, p in words.items() if p.default is not p.empty}
    hints = {word: kind for word, kind in _hints(name, module).items() if word in words} if words else {}
    return OpSpec(
        name=name, module=f"{module.__module__}:{module.__qualname__}", takes=takes, inputs=_inputs(name, module),
        sketch=_sketch(name, module, sketch, takes, words, defaults, hints), commutative=commutative, ordered=ordered,
        scaled=tuple(word for word in scaled if word in words), defaults=defaults,
        required=tuple(word for word in words if word not in defaults),
    )  # fmt: skip


def _parameters(name: str, module: M) -> dict[str, inspect.Parameter]:
    """The constructor's parameters, all of which can be passed by name; none where it has no constructor of its own."""
    from torch import nn

    if module.__init__ is nn.Module.__init__:
        return {}
    parameters = dict(list(inspect.signature(module.__init__).parameters.items())[1:])
    for parameter in parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise SpaceError(f"the constructor of {name} takes {parameter}", expected="words with names of their own",
                             hint="A page passes words by name.")  # fmt: skip
    return parameters


def _inputs(name: str, module: M) -> int | None:
    """How many tensors ``forward`` takes; None for any number."""
    words = list(inspect.signature(module.forward).parameters.values())[1:]
    if any(word.kind is word.VAR_POSITIONAL for word in words):
        return None
    count = sum(word.default is word.empty and word.kind is word.POSITIONAL_OR_KEYWORD for word in words)
    if not count:
        raise SpaceError(f"the forward of {name} takes no tensor", expected="def forward(self, x)")
    return count


def _hints(name: str, module: M) -> dict[str, Any]:
    try:
        return get_type_hints(module.__init__)
    except NameError as error:
        raise SpaceError(f"an annotation of {name} cannot be read", got=str(error)) from None


def _sketch(name: str, module: M, sketch: SketchFunction | None, takes: tuple[str, ...], words: Mapping[str, Any],
            defaults: Mapping[str, Any], hints: Mapping[str, Any]) -> SketchFunction:  # fmt: skip
    """The operation's sketch: the user's, or one that builds the module and has torch count."""
    if sketch is not None:
        try:
            inspect.signature(sketch).bind(None, **words)
        except TypeError as error:
            raise SpaceError(f"the sketch of {name} takes other words than its constructor", got=str(error),
                             expected=f"def sketch(s, *, {', '.join(words)})") from None  # fmt: skip
        user: SketchFunction = sketch

        def told(s: Any, **given: Any) -> None:
            user(s, **{**defaults, **given})
    else:
        remembered = lru_cache(maxsize=_MEASURED)(lambda shapes, given: measure(name, module, takes, shapes, dict(given)))

        def told(s: Any, **given: Any) -> None:
            tell(s, remembered(s.inputs, tuple(given.items())))

    told.__annotations__, told.__doc__ = dict(hints), module.__doc__
    return told
