"""The one table of operations: name -> :class:`OpSpec`. Importing it imports no torch.

An entry is made by decorating the operation's sketch::

    @op("sep_conv", "nas.ops.modules.conv:SepConv")
    def sep_conv(s: Sketch, *, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        \"\"\"Depthwise then pointwise convolution ...\"\"\"

The keyword-only parameters of the sketch are the operation's words in YAML, with their defaults. The module's
constructor takes the same ones, after those that ``takes`` names and that lowering fills in from the wiring:
``in_channels`` (int; a tuple of them for several inputs), ``input_size`` ((H, W) of a map), ``num_tokens`` (L of
tokens). A sketch may instead return a dict: exactly the arguments its module is to be called with (for torch's own
classes, whose words differ).
A sketch parameter without a default must be written by the user, except ``out_channels`` (the cell's width, else the
input's channels) and ``num_classes`` (the task's).
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nas.errors import SpaceError, nearest
from nas.ops.sketch import Sketch

if TYPE_CHECKING:
    from torch import nn

SketchFunction = Callable[..., "dict[str, Any] | None"]

FROM_WIRING = ("in_channels", "input_size", "num_tokens")
FROM_CONTEXT = ("out_channels", "num_classes")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpSpec:
    """One operation: its words, what it does to shapes and costs, and where its module lives.

    ``scaled`` names the keyword arguments that a width multiplier scales; ``inputs`` is how many tensors it takes
    (None: any number, a combine); ``commutative``: its inputs may be swapped; ``ordered``: its result depends on the
    order of the input's channels beyond a relabelling of its own weights (channel shuffle, grouped convolution).
    """

    name: str
    module: str
    sketch: SketchFunction
    takes: tuple[str, ...] = ("in_channels",)
    scaled: tuple[str, ...] = ("out_channels",)
    inputs: int | None = 1
    commutative: bool = False
    ordered: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """First line of the operation's description."""
        return (inspect.getdoc(self.sketch) or "").split("\n")[0]

    def load(self) -> type[nn.Module]:
        """Import and return the module class."""
        path, _, name = self.module.partition(":")
        module: type[nn.Module] = getattr(importlib.import_module(path), name)
        return module

    def accepts(self, word: str) -> bool:
        """Whether the operation has that keyword argument."""
        return word in self.defaults or word in self.required


OPS: dict[str, OpSpec] = {}
"""Every known operation by name. Filled by importing :mod:`nas.ops`, and by a user's plugins."""

ALIASES: dict[str, str] = {}
"""Other spellings of a plugin's operations: ``my_ops.py:ScaledConv`` -> its name. Filled by :mod:`nas.ops.plugins`."""


def op(name: str, module: str, *, takes: tuple[str, ...] = ("in_channels",),
       scaled: tuple[str, ...] = ("out_channels",), inputs: int | None = 1, commutative: bool = False,
       ordered: bool = False) -> Callable[[SketchFunction], SketchFunction]:  # fmt: skip
    """Enter an operation into :data:`OPS`; see the module's head."""

    def enter(sketch: SketchFunction) -> SketchFunction:
        words = [p for p in inspect.signature(sketch).parameters.values() if p.kind is p.KEYWORD_ONLY]
        register(OpSpec(
            name=name, module=module, sketch=sketch, takes=takes,
            inputs=inputs, commutative=commutative, ordered=ordered,
            scaled=tuple(w for w in scaled if any(p.name == w for p in words)),
            defaults={p.name: p.default for p in words if p.default is not p.empty},
            required=tuple(p.name for p in words if p.default is p.empty),
        ))  # fmt: skip
        return sketch

    return enter


def register(spec: OpSpec) -> None:
    """Add an operation; a name is given once. Raises SpaceError when it is taken."""
    if spec.name in OPS:
        raise SpaceError(f"operation {spec.name!r} is already defined", hint="Choose another name.")
    OPS[spec.name] = spec


def _known(name: str, names: Iterable[str]) -> str:
    """What to write instead of an unknown name."""
    return nearest(name, names) or "`nas ops` lists all; one of your own needs plugins=FILE.py."


def find(name: str) -> OpSpec:
    """The operation of that name. Raises SpaceError naming the nearest known one."""
    if (spec := OPS.get(name)) is None:
        raise SpaceError("unknown operation", got=name, hint=_known(name, OPS))
    return spec


def from_wiring(word: str, sketch: Sketch) -> Any:
    """The constructor's argument of :data:`FROM_WIRING` that a sketch's inputs give; several inputs have a tuple of channels.

    Raises ShapeError when the first input is no map, or no tokens.
    """
    match word:
        case "in_channels":
            channels = tuple(Sketch(shape).channels for shape in sketch.inputs)
            return channels if len(channels) > 1 else channels[0]
        case "input_size":
            return sketch.map()[1:]
        case _:
            return sketch.tokens()[0]


_SIZED = re.compile(r"(\w+?)_(\d+)x(\d+)")


def plain_name(word: str) -> str:
    """The name of a plugin's operation that is spelled ``my_ops.py:ScaledConv``; any other word as it is."""
    return ALIASES.get(word.rpartition("/")[2], word) if ":" in word else word


def resolve(word: str) -> tuple[str, dict[str, Any]]:
    """Name and keyword arguments that a word in YAML stands for: ``sep_conv_5x5`` is ``sep_conv, kernel_size=5``.

    A word that is itself an operation stands for itself. Raises SpaceError for an unknown one, which for one of a plugin
    says how to load it.
    """
    word = plain_name(word)
    if word in OPS:
        return word, {}
    if (match := _SIZED.fullmatch(word)) and match[1] in OPS and OPS[match[1]].accepts("kernel_size"):
        height, width = int(match[2]), int(match[3])
        return match[1], {"kernel_size": height if height == width else (height, width)}
    if ":" in word:
        raise _unknown_of_plugin(word)
    sized = [f"{n}_{k}x{k}" for n, s in OPS.items() if s.accepts("kernel_size") for k in (1, 2, 3, 5, 7)]
    raise SpaceError("unknown operation", got=word, hint=_known(word, [*OPS, *sized]))


def _unknown_of_plugin(word: str) -> SpaceError:
    plugin, _, _ = word.rpartition(":")
    prefix = plugin.rpartition("/")[2] + ":"
    known = [alias for alias in ALIASES if alias.startswith(prefix)]
    if known:
        return SpaceError("the plugin has no such operation", got=word, expected="one of " + ", ".join(known))
    return SpaceError("an operation of a plugin that is not loaded", got=word,
                      hint=f"Add plugins={plugin} to the command line: a page alone runs no code.")  # fmt: skip
