"""Our latency against torch's ``blocked_autorange`` and ONNX Runtime's own profile, on the same networks in the same run.

    python benchmarks/latency_peers.py [--nets 6] [--rounds 5] [--write]

Random small networks, and published ones from 1 to 40 ms. For each, in turn and several rounds: ``measure_latency`` and
``torch.utils.benchmark`` of the eager network, ``measure_latency(runtime="onnxruntime")``, and what ONNX Runtime says of
itself. That is taken from two sessions in turn, the second of two runs each, one of them with
``SessionOptions.enable_profiling``: ``loop``, seconds of ``session.run`` by the clock outside, without the profiler;
``profiled``, the same with it; ``model_run``, what the profile says of the whole run; ``kernels``, the sum of what it says
of the operations. So ``profiled - loop`` is what recording costs, ``profiler_us`` that for every operation, and ``profile`` what
the profile says of the whole run without it.
``session.run`` also copies the output, which a bound one (ours) leaves where it is. Runs during which the scheduler gave the
core to others are left out, as in our own protocol.

Differences are of ours, which are milliseconds of the quiet machine (the median over the rounds). The peers know no drift and no
foreign load, so each is compared twice: its median over the rounds, which counts what slowed the machine, and ``quiet``: the time
that our protocol's rule (:func:`nas.measure.protocol.quiet_time`) takes from all its runs. Within 5 % is the target. About 5
minutes. With ``--write`` the figures go to results/benchmarks/latency_peers.csv with their conditions.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from latency_repeatability import Shape, autorange_ms, random_net
from torch import nn

from nas.errors import MeasureError
from nas.measure.device import CpuTimer, Timing
from nas.measure.latency import measure_latency
from nas.measure.onnx import OnnxModel, to_onnx
from nas.measure.protocol import quiet_time
from nas.measure.reference import Anchors
from nas.net.build import build
from nas.net.graph import Size
from nas.net.lower import lower
from nas.space.library import load_architecture

ROOT = Path(__file__).resolve().parent.parent
Row = dict[str, object]
SECONDS = 0.4


PUBLISHED = (("mobilenet_v3_small", 96), ("mobilenet_v2", 96), ("mobilenet_v2", 160), ("mobilenet_v2", 224), ("resnet_18", 128),
             ("resnet_18", 224))  # fmt: skip
"""Networks and the sides of their inputs."""


def networks(count: int) -> list[tuple[str, nn.Module, Shape]]:
    """So many random networks, and the published ones."""
    small = [(f"random {seed}", *random_net(seed)) for seed in range(count)]
    large: list[tuple[str, nn.Module, Shape]] = []
    for name, side in PUBLISHED:
        graph = lower(load_architecture(name), Size(input=(3, side, side)))
        large.append((f"{name} {side}", build(graph).eval(), (3, side, side)))
    return small + large


Times = dict[str, "np.ndarray[tuple[int], np.dtype[np.float64]]"]


def own_ms(content: bytes, shape: Shape, seconds: float) -> Times:
    """What ONNX Runtime says and what a clock outside says, ms of every run; the first tenth of the runs warms up."""
    with tempfile.TemporaryDirectory() as folder:
        data = {"x": np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)}
        plain, profiled = _session(content), _session(content, f"{folder}/profile")
        sessions, timer = {"loop": plain, "profiled": profiled}, CpuTimer(threads=1)
        timings: dict[str, list[Timing]] = {name: [] for name in sessions}
        end = time.perf_counter() + 2 * seconds
        while time.perf_counter() < end or len(timings["loop"]) < 20:
            for name, session in sessions.items():
                timings[name] += [timer(partial(session.run, None, data), 1) for _ in range(2)]
        events = json.loads(Path(profiled.end_profiling()).read_text(encoding="utf-8"))
    runs = len(timings["loop"])
    kernels = [event["dur"] / 1000 for event in events if event["cat"] == "Node" and event["name"].endswith("_kernel_time")]
    by_run = np.reshape(kernels, (runs, -1))
    whole = {name: np.array([not interrupted for _, interrupted in timings[name]]) for name in sessions}
    for kept in whole.values():
        kept[: runs // 10] = False
        kept[::2] = False  # brought the network's data back into the caches
    found = {name: (1000 * np.array([seconds for seconds, _ in timings[name]]))[whole[name]] for name in sessions}
    model_run = np.array([event["dur"] / 1000 for event in events if event["name"] == "model_run"])
    return found | {"model_run": model_run[whole["profiled"]], "kernels": by_run.sum(1)[whole["profiled"]],
                    "operations": np.array([by_run.shape[1]], dtype=float)}  # fmt: skip


def _session(content: bytes, profile: str | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def quiet(times: Sequence[float]) -> float:
    """What the times tell of a quiet machine, by the rule that our reference is timed by."""
    found = quiet_time(times)
    return found[0] if found else float("nan")


def typical(times: Sequence[float]) -> float:
    """The median."""
    return float(np.median(times)) if len(times) else float("nan")


def compare(name: str, model: nn.Module, shape: Shape, rounds: int, anchors: Anchors) -> Row:
    """One network: milliseconds over the rounds, and how far ours are from the peers'."""
    with torch.inference_mode():
        content = to_onnx(model, torch.zeros(1, *shape))
    ours: dict[str, list[float]] = {"eager": [], "onnxruntime": []}
    theirs: dict[str, list[float]] = {}
    for _ in range(rounds):
        for runtime, network in (("eager", model), ("onnxruntime", OnnxModel(content))):
            with suppress(MeasureError):
                ours[runtime].append(measure_latency(network, shape, runtime=runtime, anchors=anchors).median_ms)
        for peer, times in {"autorange": autorange_ms(model, shape, SECONDS), **own_ms(content, shape, SECONDS)}.items():
            theirs.setdefault(peer, []).extend(times)
    operations = int(theirs.pop("operations")[0])
    ms = {peer + word: look(times) for word, look in LOOKS.items() for peer, times in theirs.items()}
    for word in LOOKS:
        ms[f"profile{word}"] = ms[f"model_run{word}"] - (ms[f"profiled{word}"] - ms[f"loop{word}"])
    told = {runtime: typical(figures) for runtime, figures in ours.items()}
    differences = {f"{what}_difference": round(told["eager" if "autorange" in what else "onnxruntime"] / value - 1, 4)
                   for what, value in ms.items()}  # fmt: skip
    return {"net": name, "refused": 2 * rounds - sum(map(len, ours.values())),
            **{f"{what}_ms": round(value, 4) for what, value in (told | ms).items()}, "operations": operations,
            "profiler_us": round(1000 * (ms["profiled_quiet"] - ms["loop_quiet"]) / operations, 2),
            **differences}  # fmt: skip


LOOKS: dict[str, Callable[[Sequence[float]], float]] = {"": typical, "_quiet": quiet}
"""How the times of a peer become one figure, and what its column's name ends with."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--nets", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write results/benchmarks/latency_peers.csv")
    args = parser.parse_args()
    torch.set_num_threads(1)
    anchors, rows = Anchors(), list[Row]()
    for name, model, shape in networks(args.nets):
        rows.append(compare(name, model, shape, args.rounds, anchors))
        print(rows[-1], flush=True)
    gaps = {name: [abs(float(str(row[name]))) for row in rows] for name in rows[0] if name.endswith("_difference")}
    rows.append({"net": "MEDIAN", **{name: round(float(np.nanmedian(values)), 4) for name, values in gaps.items()}})
    print(rows[-1], f"load average {os.getloadavg()[0]:.1f}")
    if args.write:
        conditions = {"rounds": args.rounds, "threads": 1, "batch": 1, "dtype": "float32", "cores": os.cpu_count(),
                      "load_average": round(os.getloadavg()[0], 1), "torch": str(torch.__version__),
                      "onnxruntime": ort.__version__}  # fmt: skip
        path = ROOT / "results" / "benchmarks" / "latency_peers.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=[*rows[0], *conditions])
            writer.writeheader()
            writer.writerows(row | conditions for row in rows)


if __name__ == "__main__":
    main()
