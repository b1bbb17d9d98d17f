"""The command line. Every verb imports what it needs when it runs: ``nas --help`` and ``nas spaces`` never import torch."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from typing import Any

from nas.cli.arguments import Arguments, Verb, help_text, parse_arguments
from nas.errors import NasError, UsageError, nearest
from nas.search.interrupt import as_ctrl_c
from nas.search.keys import KEYS


def _late(module: str) -> Callable[[Arguments], dict[str, Any]]:
    """The ``run`` of ``nas.cli.MODULE``, imported when it is called."""

    def run(arguments: Arguments) -> dict[str, Any]:
        from importlib import import_module

        document: dict[str, Any] = import_module(f"nas.cli.{module}").run(arguments)
        return document

    return run


CONDITIONS = {
    "target": "cpu, cuda or cuda:N (default cpu)", "batch": "inputs at a time (default 1)", "threads": "CPU threads (default 1)",
    "dtype": "float32, bfloat16 or float16 (default float32)",
    "runtime": "eager, compile, onnxruntime, openvino or tensorrt (default eager)",
    "memory_format": "channels_last or contiguous (default: what suits the runtime)", "cores": "CPU cores to pin to, e.g. 0,1",
}
HOW = {"fold": "fold batch norms into the convolutions before them", "graph": "replay a CUDA graph"}
SIZE = {"input": "the input's shape, e.g. 3x32x32", "num_classes": "the network's classes",
        "width": "multiplier of its channels", "depth": "multiplier of its repeats"}  # fmt: skip
PLUGINS = {"plugins": KEYS["plugins"]}

VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            name="search", summary="Search a space: train candidates, measure them, keep the front.",
            usage="nas search space=SPACE data=DATA budget=BUDGET [key=value ...]", run=_late("search"),
            keys=KEYS, repeatable=("constraint", "plugins"), example="nas search space=nasnet_cell data=digits budget=3min",
        ),
        Verb(
            name="resume", summary="Go on with a run that was interrupted, or whose budget was raised.",
            usage="nas resume RUN [budget=BUDGET] [workers=N]", words=("run",), run=_late("resume"),
            keys={"budget": "a new budget for the whole run, or +20min to extend it", "workers": KEYS["workers"],
                  **PLUGINS}, repeatable=("plugins",),
            example="nas resume nasnet_cell-20260101-120000 budget=+10min",
        ),
        Verb(
            name="worker", summary="Join a running search from another machine, or with more processes of this one.",
            usage="nas worker connect=HOST:PORT [token=TOKEN] [workers=N] [key=value ...]", run=_late("worker"),
            keys={"connect": "where the search listens: what it printed for endpoint=",
                  "token": "what it printed; @FILE reads a file, and without it the variable NAS_TOKEN is taken",
                  "workers": "slots to offer (default: as many as the devices have room for)",
                  "gpus_per_trial": KEYS["gpus_per_trial"],
                  "cpus_per_trial": "CPU cores a trial holds (default: its share of the machine)",
                  "log": "a file for what the trials print (default: none)"},
            example="nas worker connect=10.0.0.1:7070 token=@token.txt",
        ),
        Verb(
            name="best", summary="The most accurate network of a run within limits, from what was already evaluated.",
            usage='nas best RUN ["latency<=5ms" ...] [--remeasure]', words=("run", *(f"limit{i}?" for i in range(8))),
            run=_late("best"), keys=PLUGINS, repeatable=("plugins",),
            flags={"remeasure": "measure the answer again, under the run's conditions: do the limits still hold?"},
            example='nas best nasnet_cell-20260101-120000 "latency<=5ms"',
        ),
        Verb(
            name="show", summary="Print a search space, an architecture or a run.",
            usage="nas show SPACE|ARCHITECTURE|RUN [key=value ...]", words=("what",), run=_late("show"),
            keys={"input": "an architecture's input, e.g. 3x64x64", "num_classes": "an architecture's classes",
                  "width": "multiplier of its channels", "depth": "multiplier of its repeats",
                  "svg": "a file for a picture of the cells and the network (also --svg FILE); a space's is of one sample",
                  "network.LAYER.WORD": "another value for a word of the page, e.g. network.stage1.repeat=4", **PLUGINS},
            repeatable=("plugins",), options=("svg",), open_keys="network.",
            flags={"layers": "a line for every operation"}, example="nas show nasnet_a_cifar --layers",
        ),
        Verb(
            name="report", summary="Write a run's report as one HTML page, or serve it while the run goes on.",
            usage="nas report RUN [out=FILE] [front=FILE] [--serve] [port=PORT]", words=("run",), run=_late("report"),
            keys={"out": "the page (default report.html in the run's folder)",
                  "front": "also a picture of the front alone: .svg, .png or .pdf",
                  "port": "of --serve, on this machine's loopback address (default 8571; 0 takes a free one)", **PLUGINS},
            flags={"serve": "show the report in a browser while the run goes on"}, repeatable=("plugins",),
            example="nas report nasnet_cell-20260101-120000",
        ),
        Verb(
            name="compare", summary="Compare runs of the same objectives: a table, and a page with their fronts.",
            usage="nas compare RUN RUN ... [out=FILE]", words=("run", "run", *(f"run{i}?" for i in range(3, 13))),
            run=_late("compare"), keys={"out": "a page with the fronts and their growth", **PLUGINS}, repeatable=("plugins",),
            example="nas compare first_run second_run out=both.html",
        ),
        Verb(
            name="measure", summary="Measure a network's latency on a device, with its own error and the memory it needs.",
            usage="nas measure ARCHITECTURE|RUN [target=cpu] [batch=1] [runtime=eager] [key=value ...]", words=("what",),
            run=_late("measure"),
            keys={**CONDITIONS, **SIZE,
                  "target": "cpu, cuda or cuda:N, http://HOST:PORT (nas measure-server), or ssh://USER@HOST (default cpu)",
                  "trial": "of a run: best, or a trial's number (default best)",
                  "tolerance": "half-width of the median's interval that is enough (default 2%)",
                  "max_s": "seconds to sample at most, per attempt (default 3; slow networks up to 60)",
                  "wait": "seconds to wait while another measurement has the device (default 60)",
                  "reference": "a folder for the reference's quiet time: figures of commands that share it compare exactly",
                  **PLUGINS},
            flags=HOW, repeatable=("plugins",), example="nas measure nasnet_a_cifar input=3x32x32 runtime=onnxruntime",
        ),
        Verb(
            name="measure-server", summary="Measure exported networks for others: a queue for the devices of this machine.",
            usage="nas measure-server [target=cpu,cuda:0] [host=127.0.0.1] [port=8764] [--allow]", run=_late("measure_server"),
            keys={"target": "the devices, the first is used unless a client asks for another (default cpu)",
                  "host": "the address to listen on (default 127.0.0.1: this machine alone); any other needs a token",
                  "port": "the port (default 8764; 0 takes a free one)",
                  "token_file": "a file with the token that clients bring (default: NAS_TOKEN, or what NAS_TOKEN_FILE names)",
                  "max_mb": "the largest network taken (default 256)", "queue": "how many may wait for a device (default 64)"},
            flags={"allow": "also take networks as source, which is code; needs a token",
                   "stdio": "answer on stdin and stdout, as ssh:// targets do"},
            example="nas measure-server target=cpu",
        ),
        Verb(
            name="latency-table", summary="Measure every operation of a space's networks once, and how well they add up.",
            usage="nas latency-table SPACE [target=cpu] [networks=20] [check=20] [out=FILE] [key=value ...]", words=("space",),
            run=_late("latency_table"),
            keys={**CONDITIONS, **SIZE,
                  "networks": "sampled until so many networks in a row bring nothing new, ten times that at most (default 20)",
                  "check": "networks measured whole, by which sums are judged and corrected (default 20)",
                  "seed": "of the sampling (default 0)",
                  "out": "the JSON file, gone on with where it exists (default results/latency_tables/SPACE.json)", **PLUGINS},
            flags=HOW, repeatable=("plugins",), example="nas latency-table nasnet_cell input=3x32x32 width=0.25 networks=10",
        ),
        Verb(
            name="spaces", summary="List the bundled search spaces with their exact sizes, or the published architectures.",
            usage="nas spaces [--architectures]", run=_late("spaces"),
            flags={"architectures": "list the published networks instead"}, example="nas spaces",
        ),
        Verb(
            name="export",
            summary="Write a found network as a folder: one file of source that needs torch alone, weights, a test.",
            usage="nas export RUN|ARCHITECTURE [trial=best|ID|all-front] [out=DIR] [formats=py,onnx,pt2]", words=("what",),
            run=_late("export"),
            keys={"trial": "best, a trial's number, or all-front (default best)",
                  "out": "the folder to write (default export/NAME)",
                  "formats": "py, and any of onnx, pt2, safetensors (default py)", **PLUGINS},
            repeatable=("plugins",),
            example="nas export nasnet_cell-20260101-120000 out=my_net",
        ),
        Verb(
            name="train", summary="Train a network at the size it is deployed at, by a published recipe, to the end; export it.",
            usage="nas train ARCHITECTURE|RUN data=DATA [recipe=cifar] [trial=best|ID] [out=DIR] [key=value ...]",
            words=("what",), run=_late("train"),
            keys={"data": KEYS["data"] + "; of a run: its own unless said",
                  "recipe": "quick, cifar, imagenet, efficientnet_v2, or a YAML file of your own (default cifar)",
                  "trial": "of a run: best, or a trial's number (default best)", "deploy": KEYS["deploy"],
                  "epochs": "epochs (default: the recipe's)",
                  "batch_size": "batch size; the learning rate is changed in proportion (default: the recipe's)",
                  "budget": "wall time, e.g. 8h: epochs are planned so that the schedule ends in it",
                  "seed": "of weights, order and augmentation (default 0)",
                  "device": "cpu or cuda (default: cuda where there is one)",
                  "out": "the folder; the same command goes on in it (default results/trained/NAME-DATA-RECIPE)",
                  "formats": "of the export: py, and any of onnx, pt2, safetensors (default py)", **PLUGINS},
            repeatable=("plugins",), example="nas train darts_v2_cifar data=cifar10 recipe=cifar",
        ),
        Verb(
            name="scale", summary="Scale a network to a family B0..Bn by the coefficients that a small search finds best.",
            usage="nas scale ARCHITECTURE|RUN data=DATA|coefficients=A,B,G [target=cpu] [budget=BUDGET] [key=value ...]",
            words=("what",), run=_late("scale"),
            keys={"data": KEYS["data"] + "; candidates are trained on it",
                  "coefficients": "alpha (depth), beta (width), gamma (resolution), e.g. 1.2,1.1,1.15: nothing is trained",
                  "rule": "what a step doubles: macs, or latency as measured (default macs)",
                  "members": "networks of the family, B0 included (default 4)",
                  "budget": "wall time of the comparison, e.g. 1h (default: the recipe's epochs for every candidate)",
                  "recipe": "by which candidates are trained (default quick)",
                  "trial": "of a run: best, or a trial's number (default best)", "deploy": "size of B0: " + KEYS["deploy"],
                  "seed": "of weights, order and augmentation (default 0)",
                  "device": "where candidates are trained: cpu or cuda (default: cuda where there is one)",
                  **CONDITIONS, "out": "the folder; the same command goes on in it (default results/scaled/NAME)", **PLUGINS},
            flags=HOW, repeatable=("plugins",), example="nas scale efficientnet_b0 coefficients=1.2,1.1,1.15 members=3",
        ),
        Verb(
            name="ops", summary="List the operations that a page may name.", usage="nas ops [NAME]", words=("name?",),
            run=_late("ops"), keys=PLUGINS, repeatable=("plugins",),
            example="nas ops sep_conv",
        ),
    )
}  # fmt: skip


def overview() -> str:
    """What ``nas --help`` prints."""
    width = max(map(len, VERBS))
    return "\n".join([
        "nas: neural architecture search on PyTorch", "", "usage: nas VERB [words] [key=value ...] [--json] [--help]", "",
        "verbs:",
        *(f"  {verb.name:<{width}}  {verb.summary}" for verb in VERBS.values()),
        "", "example: nas search space=nasnet_cell data=digits budget=3min",
    ])  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code: 0 done, 2 not done for the reason that was printed, 130 interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in {"--help", "-h", "help"}:
        print(overview())
        return 0
    if argv[0] == "--version":
        from importlib.metadata import version

        print(f"nas {version('nas')}")
        return 0
    try:
        with as_ctrl_c():
            code = _run(argv)
        sys.stdout.flush()
        return code
    except NasError as error:
        print(f"nas: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("nas: interrupted", file=sys.stderr)
        return 130
    except RuntimeError as error:
        if "home directory" not in str(error):
            raise
        print(f"nas: {error}", file=sys.stderr)  # of a path such as ~nobody/x
        return 2
    except BrokenPipeError:  # the reader has gone, `nas ops | head` say; Python's own flush at the end must not tell of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        print(f"nas: {error.filename}: {error.strerror}", file=sys.stderr)  # a file or folder of the user's
        return 2


def _run(argv: list[str]) -> int:
    verb = VERBS.get(argv[0])
    if verb is None:
        raise UsageError("unknown verb", got=argv[0], expected=", ".join(VERBS), hint=nearest(argv[0], VERBS))
    if "--help" in argv or "-h" in argv:
        print(help_text(verb))
        return 0
    arguments = parse_arguments(verb, argv[1:])
    if plugins := arguments.keys.get("plugins"):
        from nas.ops.plugins import load_plugins

        load_plugins(plugins)
    # With --json stdout carries the document and nothing else, whatever a library prints.
    with redirect_stdout(sys.stderr) if arguments.json else nullcontext():
        document = verb.run(arguments)
    if arguments.json and document:  # of several processes of one training only the first has one
        print(json.dumps(document, indent=2, allow_nan=False))
    return 130 if document.get("interrupted") else 0
