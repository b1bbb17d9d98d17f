"""``nas measure`` from its command line, on a network of two layers."""

import json
import random
import re
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from nas.cli import main
from nas.cli import measure as verb
from nas.measure import latency as room
from nas.measure.latency import Latency
from nas.measure.protocol import Limits
from nas.net.graph import Size
from nas.space.parse import parse_page
from nas.space.search_space import SearchSpace
from tests.cli.contract import contract

PAGE = """
name: tiny
input: [3, 8, 8]
num_classes: 4
network:
  - {op: conv_bn_act, out_channels: 8}
  - global_avg_pool
  - classifier
"""
LENIENT = Limits(tolerance=0.2, min_pairs=20, min_s=0.02, max_s=1, warmup_s=0.02, max_half_width=5, max_rejected=0.99,
                 max_drift=1000, max_speedup=1000, attempts=5)  # fmt: skip


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_calibrate", lambda timer, reference, between: 1e-3)
    monkeypatch.setattr(verb, "Limits", lambda: LENIENT)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(PAGE)
    return str(path)


def nas(*words):
    return main(["measure", *words])


def test_json_is_the_whole_latency_with_memory(page, capsys):
    assert nas(page, "batch=2", "input=3x16x16", "num_classes=7", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    latency = document["latency"]
    assert set(document) == contract("JSON of measure")
    assert set(latency) == set(Latency.__dataclass_fields__) == contract("JSON of a latency")
    assert (document["name"], latency["batch"], latency["input_shape"]) == ("tiny", 2, [3, 16, 16])
    assert document["num_params"] == 3 * 8 * 9 + 16 + 8 * 7 + 7
    assert document["throughput_per_s"] == pytest.approx(2000 / latency["median_ms"])
    assert document["memory"]["weight_bytes"] == 4 * (document["num_params"] + 16) + 8
    assert document["memory"]["activation_bytes"] == 2 * 4 * ((3 + 8) * 16 * 16 + 8)
    assert document["memory"]["peak_bytes"] is None


def test_the_text_says_interval_conditions_and_drift(page, capsys):
    assert nas(page, "--fold", "memory_format=contiguous", "threads=1", "tolerance=5%", "max_s=2") == 0
    text = capsys.readouterr().out
    for part in ("tiny, input 3x8x8, batch 1", " ms ± ", "95% interval", "95th percentile", "n = ", "1 thread", "float32",
                 "contiguous, batch norms folded", "eager", "the reference ran", "weights"):  # fmt: skip
        assert part in text


def test_limits_come_from_the_command_line(page, monkeypatch):
    seen = {}

    def measure(target, network, **options):
        seen.update(options)
        raise verb.UsageError("seen")

    monkeypatch.setattr(verb, "measure_at", measure)
    assert nas(page, "tolerance=10%", "max_s=7", "cores=0", "runtime=compile", "dtype=bfloat16", "reference=kept", "--graph") == 2
    assert (seen["limits"].tolerance, seen["limits"].max_s, seen["cores"]) == (0.1, 7, [0])
    assert (seen["runtime"], seen["dtype"], seen["graph"], seen["anchors"] is None) == ("compile", "bfloat16", True, False)


def test_a_kept_reference_is_used_again(page, tmp_path, capsys):
    for _ in range(2):
        assert nas(page, "reference=kept", "--json") == 0
    assert list(json.loads((tmp_path / "kept" / "latency_reference.json").read_text()).values()) == [1e-3]


def test_a_trial_of_a_run_is_measured_at_the_size_to_deploy(page, tmp_path, monkeypatch, capsys):
    """The run's folder is real, its archive stands in for a search."""
    space = SearchSpace(parse_page({"name": "s", "input": [3, 8, 8], "num_classes": 4, "network": [
        {"op": "conv_bn_act", "out_channels": {"choice": [8, 16]}}, "global_avg_pool", "classifier"]}))  # fmt: skip
    record = SimpleNamespace(number=3, decisions=space.sample(random.Random(0)).decisions)
    asked = []
    archive = SimpleNamespace(pick=lambda trial: asked.append(trial) or record, study=SimpleNamespace(space=space),
                              deploy=Size(width=2.0, input=(3, 12, 12)))  # fmt: skip

    @contextmanager
    def opened(name):
        yield archive

    (tmp_path / "results" / "run1").mkdir(parents=True)
    (tmp_path / "results" / "run1" / "config.yaml").touch()
    monkeypatch.setattr("nas.search.archive.open_archive", opened)
    assert nas("run1", "trial=3", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["name"], document["latency"]["input_shape"], asked) == ("run1-3", [3, 12, 12], ["3"])


@pytest.mark.parametrize(("words", "message"), [
    ((), "needs WHAT"),
    (("tiny2.yaml",), "no such page"),
    (("nasnet_cel",), "Did you mean"),
    (("nasnet_cell",), "that is a search space"),
    (("tiny.yaml", "trial=best"), "no such run"),
    (("tiny.yaml", "target=tpu"), "no such device.*expected cpu"),
    (("tiny.yaml", "batch=0"), "batch is a whole number"),
    (("tiny.yaml", "threads=two"), "threads is a whole number"),
    (("tiny.yaml", "dtype=float23"), "unknown dtype.*Did you mean 'float32'"),
    (("tiny.yaml", "runtime=onx"), "unknown runtime"),
    (("tiny.yaml", "input=3x8"), "3x8 is not channels x height x width"),
    (("tiny.yaml", "tolerance=0"), "tolerance is a number; expected 0.1 to 50"),
    (("tiny.yaml", "max_s=long"), "max_s is a number"),
    (("tiny.yaml", "cores=all"), "cores is a whole number"),
    (("tiny.yaml", "--graph"), "on CUDA only"),
    (("tiny.yaml", "bach=2"), "unknown key.*Did you mean 'batch'"),
])  # fmt: skip
def test_mistakes_are_told_without_a_traceback(page, words, message, capsys):
    assert nas(*words) == 2
    err = capsys.readouterr().err
    assert re.search(message, err), err
    assert "Traceback" not in err


def test_help_has_an_example_and_every_key(capsys):
    assert nas("--help") == 0
    text = capsys.readouterr().out
    assert "example: nas measure" in text
    assert all(key in text for key in ("target", "runtime", "tolerance", "--graph"))
