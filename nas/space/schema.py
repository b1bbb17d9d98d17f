"""A JSON Schema of pages, for completion in editors: made from the tables of words and the catalogue of operations.

It accepts every page that the parser accepts; what takes more than a look at one place (names, sources, shares, shapes)
is left to the parser. ``python -m nas.space.schema`` prints the text of ``search_spaces/space.schema.json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from nas.ops import OPS, OpSpec
from nas.ops.catalogue import FROM_CONTEXT
from nas.ops.kinds import kinds, say
from nas.space.grammar import ABSENT, MAX_BLOCKS, MAX_REPEAT, MAX_SCALE, NAME, PROJECT, SCALING_WORDS

Schema = dict[str, Any]

_SIMPLE: dict[Any, Schema] = {
    int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"}, str: {"type": "string"},
    type(None): {"type": "null"},
}  # fmt: skip

_PLUGIN: Schema = {"type": "string", "pattern": r"^[^:]+:[A-Za-z_]\w*$", "examples": ["my_ops.py:MyOp"]}
"""An operation of a user's own: its words are known to who has loaded it."""

_COUNT: Schema = {"type": "integer", "minimum": 1}
_TEXT: Schema = {"type": "string"}
_SWITCH: Schema = {"type": "boolean"}


def make_schema() -> Schema:
    """The schema as plain values (draft 7)."""
    definitions = _values() | _nodes() | {"cell": _cell(), "scaling": _scaling()}
    for name in sorted(OPS):
        definitions |= {_say_kind(kind): _hole(_kind(kind)) for kind in kinds(OPS[name]).values()}
        definitions[f"op {name}"] = _op(OPS[name])
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A search space or an architecture of nas",
        **_page(),
        "definitions": {_slug(name): schema for name, schema in definitions.items()},
    }


def schema_text() -> str:
    """The schema as the text of its file."""
    return json.dumps(make_schema(), indent=1, ensure_ascii=False) + "\n"


def _page() -> Schema:
    return _object("A page.", {
        "name": _TEXT, "source": _TEXT, "reference": _TEXT, "note": {}, "num_classes": _COUNT,
        "input": {"type": "array", "items": _COUNT, "minItems": 3, "maxItems": 3}, "scaling": _ref("scaling"),
        "constraints": _list_of(_TEXT), "network": _ref("some layers"), "auxiliary": _ref("some layers"),
        "cells": {"type": "object", "propertyNames": _ref("name"), "additionalProperties": _ref("cell")},
        "variants": {"type": "object", "additionalProperties": {"type": "object"}},
    }, ["name", "network"])  # fmt: skip


def _values() -> dict[str, Schema]:
    """Names, sources and holes."""
    optional = _object("Each of these, or none.", {"optional": _list_of(_ref("source"))}, ["optional"])
    subset = _object("All sets of so many.", {"subset": _COUNT, "of": _list_of(_ref("source"))}, ["subset", "of"])
    one = {"anyOf": [*_hole(_ref("source"))["anyOf"], optional]}
    several = {"anyOf": [_ref("one source"), _list_of(_ref("one source"), least=1)]}
    whole = {"anyOf": [subset, _options(several)]}
    return {
        "name": {"type": "string", "pattern": f"^{NAME.pattern}$"},
        "source": {"anyOf": [_TEXT, {"type": "integer", "maximum": -1}]},
        "one source": one,
        "from": {"anyOf": [*several["anyOf"], _object("", {"choice": whole, "share": _ref("name")}, ["choice"])]},
        "range": _object("A number from low to high.", {
            "range": {**_list_of({"type": "number"}, least=2), "maxItems": 2}, "step": {"type": "number"}, "log": _SWITCH,
            "share": _ref("name"),
        }, ["range"]),
        "count": _hole(_COUNT),
        "times": _hole({"type": "integer", "minimum": 0, "maximum": MAX_REPEAT}),
        "combine": _hole({"anyOf": [{"enum": sorted(n for n, spec in OPS.items() if spec.inputs is None)}, _PLUGIN]}),
    }  # fmt: skip


def _nodes() -> dict[str, Schema]:
    """All that a layer may be."""
    kinds_of_layer = ("op name", "layers", "list", "branches", "use of a cell", "choice", "choice of ops", "repeat each",
                      "plugin op")  # fmt: skip
    match = [name for name in sorted(OPS) if {"out_channels", "stride"} <= set(kinds(OPS[name]))]
    choice = {"choice": _options(_ref("layer")), "share": _ref("name")}
    use = {"cell": _ref("name"), "channels": _ref("count"), "stride": _ref("count")}
    joined = {"branches": _ref("some layers"), "combine": _ref("combine"), "match": _ref("match")}
    return {
        "layers": _list_of(_ref("layer")),
        "some layers": _list_of(_ref("layer"), least=1),
        "layer": {"anyOf": [*map(_ref, kinds_of_layer), *(_ref(f"op {name}") for name in sorted(OPS))]},
        "op name": {"type": "string", "anyOf": [*(_op_name(OPS[name]) for name in sorted(OPS)), _PLUGIN]},
        "plugin op": _layer("An operation of a plugin.", {"op": _PLUGIN}, ["op"], closed=False),
        "match": {"anyOf": [*(_op_name(OPS[name]) for name in match), *(_ref(f"op {name}") for name in match), _PLUGIN,
                            _ref("plugin op")]},
        "list": _layer("Layers one after the other, as one layer.", {"layers": _ref("layers")}, ["layers"]),
        "branches": _layer("Layers side by side, joined.", joined, ["branches", "combine"]),
        "use of a cell": _layer("A use of a cell.", use, ["cell"]),
        "choice": _layer("One of several layers.", choice, ["choice"]),
        "choice of ops": _layer("One of several operations that share words.", {"op": _object("", choice)}, ["op"], closed=False),
        "repeat each": _layer("A body decided anew for every repetition.", {"each": _ref("layer")}, ["repeat", "each"]),
    }


def _cell() -> Schema:
    policy = {"anyOf": [{"type": "null"}, _object("", {"project": {"enum": list(PROJECT)}, "absent": {"enum": list(ABSENT)}})]}
    inputs = [_list_of(_ref("name"), least=1), {"type": "object", "minProperties": 1, "additionalProperties": policy}]
    blocks = {**_COUNT, "maximum": MAX_BLOCKS}
    return _object("A cell: inputs, layers and an output.", {
        "inputs": {"anyOf": inputs}, "layers": _ref("some layers"), "blocks": blocks, "pick": blocks, "distinct": _SWITCH,
        "ops": _ref("layer"), "combine": _ref("combine"), "output": {"anyOf": [_TEXT, _list_of(_hole(_TEXT), least=1)]},
        "match": {"anyOf": [{"type": "null"}, _ref("match")]}, "match_output": _ref("match"), "stride": _COUNT,
        "like": _ref("name"),
    })  # fmt: skip


def _scaling() -> Schema:
    factor = _hole({"type": "number", "exclusiveMinimum": 0, "maximum": MAX_SCALE})
    words = dict.fromkeys(SCALING_WORDS, factor) | {"resolution": _ref("count"), "divisor": _COUNT}
    words["phi"] = _hole({"type": "number", "minimum": 0, "maximum": MAX_SCALE})
    return _object("Compound scaling.", words)


def _op(spec: OpSpec) -> Schema:
    """A layer of one operation: its name (with a size, perhaps) and words."""
    words: dict[str, Schema] = {"op": _op_name(spec)}
    for word, kind in kinds(spec).items():
        default = {"description": f"default: {json.dumps(spec.defaults[word])}"} if word in spec.defaults else {}
        words[word] = _ref(_say_kind(kind)) | default
    required = [word for word in spec.required if word not in FROM_CONTEXT and word != "kernel_size"]
    return _layer(spec.summary, words, ["op", *required])


def _op_name(spec: OpSpec) -> Schema:
    if "kernel_size" in kinds(spec):
        return {"type": "string", "pattern": f"^{re.escape(spec.name)}(_[0-9]+x[0-9]+)?$", "examples": [spec.name]}
    return {"const": spec.name}


def _kind(kind: Any) -> Schema:
    """The schema of an annotation; see :mod:`nas.ops.kinds`."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return {"anyOf": [_kind(part) for part in parts]}
    if origin is Literal:
        return {"enum": list(parts)}
    if origin is tuple and parts[-1:] == (...,):
        return _list_of(_kind(parts[0]))
    if origin is tuple:
        return {"type": "array", "items": [_kind(part) for part in parts], "minItems": len(parts), "maxItems": len(parts)}
    return _SIMPLE.get(kind, {})


def _say_kind(kind: Any) -> str:
    return f"value: {say(kind)}"


def _layer(description: str, words: Mapping[str, Schema], required: list[str], *, closed: bool = True) -> Schema:
    """A mapping that is a layer: its own words, the words of every layer, and those of a repeat."""
    common = {"name": _ref("name"), "from": _ref("from"), "scale": _SWITCH, "repeat": _ref("times"), "first": {"type": "object"}}
    schema = _object(description, {**common, **words}, required)
    if not closed:
        del schema["additionalProperties"]
    return schema


def _hole(value: Schema) -> Schema:
    """A value, or a choice between values; a range too where the value may be a number."""
    choice = _object("", {"choice": _options(value), "share": _ref("name")}, ["choice"])
    number = re.search('"type": "(integer|number)"', json.dumps(value))
    return {"anyOf": [value, choice, *([_ref("range")] if number else [])]}


def _options(value: Schema) -> Schema:
    return {"anyOf": [_list_of(value, least=1), {"type": "object", "minProperties": 1, "additionalProperties": value}]}


def _list_of(value: Schema, *, least: int = 0) -> Schema:
    return {"type": "array", "items": value, **({"minItems": least} if least else {})}


def _object(description: str, words: Mapping[str, Schema], required: Sequence[str] = ()) -> Schema:
    schema: Schema = {"description": description} if description else {}
    schema |= {"type": "object", "properties": dict(words), "additionalProperties": False}
    return schema | ({"required": list(required)} if required else {})


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{_slug(name)}"}


def _slug(name: str) -> str:
    return re.sub(r"\W+", "_", name)


if __name__ == "__main__":
    print(schema_text(), end="")
