"""Our latency against torch's ``blocked_autorange`` and ONNX Runtime's own profile, on the same networks in the same run.

    python benchmarks/latency_peers.py [--nets 6] [--rounds 5] [--write]

For every network, in turn and several rounds: ``measure_latency`` and ``torch.utils.benchmark`` of the eager network, and
``measure_latency(runtime="onnxruntime")`` and the ``model_run`` events that ONNX Runtime records of itself
(``SessionOptions.enable_profiling``; recording costs it something for every operation). Compared are medians over the
rounds. The peers know no drift and no foreign load: take the figures on a quiet machine, within 5 % is the target there.
About 2 minutes. With ``--write`` the figures go to results/benchmarks/latency_peers.csv with their conditions.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from latency_repeatability import autorange_ms, random_net

from nas.errors import MeasureError
from nas.measure.latency import Latency, measure_latency
from nas.measure.onnx import OnnxModel, to_onnx
from nas.measure.reference import Anchors

ROOT = Path(__file__).resolve().parent.parent
Row = dict[str, object]
SECONDS = 0.4


def profiled_ms(content: bytes, shape: tuple[int, ...], runs: int = 100) -> float:
    """The median of ONNX Runtime's own ``model_run`` events, a tenth of them for warming up."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_profiling, options.profile_file_prefix = True, f"{folder}/profile"
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        data = {"x": np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)}
        for _ in range(runs):
            session.run(None, data)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times = [event["dur"] for event in events if event["name"] == "model_run"]
    return float(np.median(times[runs // 10 :])) / 1000


def median(values: list[float]) -> float:
    return float(np.median(values)) if values else float("nan")


def compare(seed: int, rounds: int, anchors: Anchors) -> Row:
    """One network: medians over the rounds in milliseconds, and how far ours are from the peers'."""
    model, shape = random_net(seed)
    with torch.inference_mode():
        content = to_onnx(model, torch.zeros(1, *shape))
    ours: dict[str, list[Latency]] = {"eager": [], "onnxruntime": []}
    refused, peers = 0, {"eager": list[float](), "onnxruntime": list[float]()}
    for _ in range(rounds):
        for runtime, network in (("eager", model), ("onnxruntime", OnnxModel(content))):
            try:
                ours[runtime].append(measure_latency(network, shape, runtime=runtime, anchors=anchors))
            except MeasureError:
                refused += 1
            peer = autorange_ms(model, shape, SECONDS) if runtime == "eager" else profiled_ms(content, shape)
            peers[runtime].append(peer)
    row: Row = {"net": seed, "refused": refused}
    for runtime, name in (("eager", "autorange"), ("onnxruntime", "profile")):
        mine, theirs = median([latency.median_ms for latency in ours[runtime]]), median(peers[runtime])
        row |= {f"{runtime}_ms": round(mine, 4), f"{name}_ms": round(theirs, 4),
                f"{name}_difference": round(mine / theirs - 1, 4)}  # fmt: skip
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--nets", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write results/benchmarks/latency_peers.csv")
    args = parser.parse_args()
    torch.set_num_threads(1)
    anchors, rows = Anchors(), list[Row]()
    for seed in range(args.nets):
        rows.append(compare(seed, args.rounds, anchors))
        print(rows[-1], flush=True)
    gaps = {name: [abs(float(str(row[name]))) for row in rows] for name in ("autorange_difference", "profile_difference")}
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
