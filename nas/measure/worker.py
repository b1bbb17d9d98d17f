"""A process that measures what it is sent: the other end of an ssh connection, or a child of ``nas measure-server``.

Only exported networks travel: an ONNX file, which is data to ONNX Runtime and its like, or, where it was started with
``allow``, the Python source that ``nas export`` writes. The unit (:class:`nas.measure.reference.Anchors`) is the asker's:
a question brings the quiet times it knows, the answer those that were used, so that nothing is kept here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import IO, Any, get_type_hints

import torch

from nas.errors import MeasureError, NasError, UnsupportedError, UsageError, nearest
from nas.measure.conditions import Conditions, Model, Options
from nas.measure.device import device_name, find_device, lock_name
from nas.measure.energy import energy_counter, measure_energy
from nas.measure.latency import measure_latency
from nas.measure.lock import device_lock
from nas.measure.protocol import Limits
from nas.measure.received import received_onnx
from nas.measure.reference import Anchors
from nas.measure.runtime import RUNTIMES
from nas.measure.wire import PROTOCOL, error_words, read_body, read_head, wait_of, write_frame

MOST_ELEMENTS, MOST_BYTES = 1 << 28, 2 << 30
"""Of an input, and of a network (protobuf ends at 2 GB)."""

_MOST = {"max_s": 60.0, "warmup_s": 30.0, "min_s": 30.0, "min_pairs": 10_000, "attempts": 10}

_OR_NONE = {"cores": list, "memory_format": str, "weights": str}
"""Conditions that may be left open, and what they are else."""


def serve(questions: IO[bytes], answers: IO[bytes], *, allow: bool, device: str = "cpu") -> None:
    """Answer until the questions end, of ``device`` where a question names none.

    An error is an answer; nothing that is asked ends the process.
    """
    while True:
        try:
            head = read_head(questions)
            if head is None:
                return
            if head["size"] > MOST_BYTES:
                raise UnsupportedError("the network is too large", got=f"{head['size']} bytes", expected=f"at most {MOST_BYTES}")
            body = read_body(questions, head["size"])
        except MeasureError as error:  # where the next question begins is not known any more
            write_frame(answers, {"error": error_words(error)})
            return
        write_frame(answers, answer({"device": device, **head}, body, allow=allow))


def answer(head: Mapping[str, Any], body: bytes, *, allow: bool) -> dict[str, Any]:
    """The answer to one question: what there is here (``ask: hello``), or a measurement."""
    try:
        return hello(head, allow) if head.get("ask") == "hello" else _measure(head, body, allow)
    except NasError as error:
        return {"error": error_words(error)}
    except Exception as error:  # a network may make an engine raise anything
        return {"error": error_words(MeasureError(f"the worker failed: {type(error).__name__}: {error}"))}


def hello(head: Mapping[str, Any], allow: bool) -> dict[str, Any]:
    """What this machine measures with. Raises MeasureError when it has no such device."""
    device = find_device(_word(head, "device", "cpu"))
    return {"protocol": PROTOCOL, "device": str(device), "device_name": device_name(device),
            "runtimes": [name for name, runtime in RUNTIMES.items() if not runtime.missing],
            "versions": {"torch": str(torch.__version__), **{name: r.version() for name, r in RUNTIMES.items() if not r.missing}},
            "takes": ["onnx", *["source"] * allow], "energy": _energy(device)}  # fmt: skip


def _energy(device: torch.device) -> bool | str:
    """Whether there is a counter, or why there is none."""
    try:
        energy_counter(device)
    except MeasureError as error:
        return str(error)
    return True


def _measure(head: Mapping[str, Any], body: bytes, allow: bool) -> dict[str, Any]:
    if head.get("protocol") != PROTOCOL:
        raise MeasureError("the two sides speak different protocols", expected=f"protocol {PROTOCOL}", got=head.get("protocol"),
                           hint="Install the same version of nas on both.")  # fmt: skip
    device, options, shape = find_device(_word(head, "device", "cpu")), _options(head.get("options")), _shape(head)
    limits, wait_s, anchors = _limits(head.get("limits")), wait_of(head), Anchors()
    for key, seconds in _mapping(head.get("reference")).items():
        if not isinstance(seconds, float) or not 0 < seconds < 1e3:
            raise MeasureError("the reference's quiet time is a number of seconds", got=str(seconds))
        anchors.record(key, seconds)
    known = anchors if anchors.known else None
    with tempfile.TemporaryDirectory() as folder:
        model = _network(_word(head, "format", "onnx"), body, (options.get("batch", 1), *shape), options, allow, Path(folder))
        with device_lock(lock_name(device), timeout_s=wait_s):
            latency = measure_latency(model, shape, device=str(device), limits=limits, anchors=known, **options)
            energy = measure_energy(model, shape, device=str(device), **options) if head.get("energy") is True else None
    key = Conditions.of(device=str(device), **options).key(latency.reference_depth)
    return {"latency": latency.to_mapping(), "reference": key, "energy_j": energy}


def _network(form: str, body: bytes, shape: tuple[int, ...], options: Options, allow: bool, folder: Path) -> Model:
    if form == "onnx":
        return received_onnx(body, shape, options.get("dtype", "float32"))
    if form != "source":
        raise MeasureError("networks travel in other formats", expected="onnx or source", got=form)
    if not allow:
        raise MeasureError("this server takes no code, and runtimes of torch need the network's source",
                           hint="Measure with runtime=onnxruntime, or start the server with a token and --allow.")  # fmt: skip
    path = folder / "network.py"
    path.write_bytes(body)
    spec = importlib.util.spec_from_file_location("network", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network: Model = module.build()
    return network


def _options(words: object) -> Options:
    """Options with known names and fitting types. Raises UsageError."""
    given, kinds = _mapping(words), get_type_hints(Options)
    for name, value in given.items():
        if name not in kinds:
            raise UsageError("unknown condition", got=name, expected=", ".join(kinds), hint=nearest(name, kinds))
        if not (type(value) is _OR_NONE.get(name, kinds[name]) or (value is None and name in _OR_NONE)):
            raise UsageError(f"{name} has an impossible value", got=str(value))
        if type(value) is list and not all(type(core) is int for core in value):
            raise UsageError("cores are numbers", got=str(value))
    options: Options = given  # type: ignore[assignment]
    return options


def _shape(head: Mapping[str, Any]) -> tuple[int, ...]:
    shape, batch = head.get("shape"), _mapping(head.get("options")).get("batch", 1)
    if not isinstance(shape, list) or not shape or not all(type(size) is int and size > 0 for size in shape):
        raise MeasureError("impossible input shape", expected="positive whole numbers", got=str(shape))
    if math.prod(shape) * batch > MOST_ELEMENTS:
        raise MeasureError("the input is too large", expected=f"at most {MOST_ELEMENTS} elements", got=f"{batch} of {shape}")
    return tuple(shape)


def _limits(words: object) -> Limits:
    given, kinds = _mapping(words), {field.name: type(field.default) for field in fields(Limits)}
    for name, value in given.items():
        if name not in kinds or type(value) not in {int, kinds[name]} or not 0 <= value <= _MOST.get(name, math.inf):
            raise UsageError("impossible limit of a measurement", got=f"{name}={value}")
    return Limits(**given)


def _mapping(words: object) -> dict[str, Any]:
    if not isinstance(words, Mapping | None):
        raise UsageError("a mapping was expected", got=str(words)[:80])
    return dict(words or {})


def _word(head: Mapping[str, Any], name: str, default: str) -> str:
    value = head.get(name, default)
    if not isinstance(value, str):
        raise UsageError(f"{name} is a word", got=str(value)[:80])
    return value


def serve_stdio(*, allow: bool, device: str = "cpu") -> None:
    """Answer on this process's own stdin and stdout; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(BrokenPipeError), answers:  # whoever asked may have gone
        serve(sys.stdin.buffer, answers, allow=allow, device=device)


if __name__ == "__main__":
    serve_stdio(allow="--allow" in sys.argv[1:], device=sys.argv[-1])
