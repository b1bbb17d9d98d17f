"""`nas search`, `show`, `best`, `resume` and `export` on a finished run: documents by contract, and what people read."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from nas.cli import main
from nas.cli.best import again_text, measured_again
from nas.cli.search import foretell, front_table, spent, text
from nas.errors import MeasureError
from nas.search.archive import open_archive
from nas.search.config import SearchConfig
from nas.search.objectives import parse_constraint
from tests.cli.contract import DOCS, contract
from tests.search.test_start import FRONT_KEYS, KEYS


@pytest.fixture
def there(finished, monkeypatch):
    monkeypatch.chdir(finished)
    return finished


@pytest.fixture
def copy(finished, tmp_path, monkeypatch):
    shutil.copytree(finished / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results" / "done"


def answer(capsys, *argv):
    assert main([*argv, "--json"]) == 0
    out, _ = capsys.readouterr()
    return json.loads(out)


def test_the_documented_contract_of_a_search_is_the_tested_one():
    assert contract("JSON of search and resume") == KEYS
    assert contract("JSON of a member of the front") == FRONT_KEYS


def test_show_a_run(there, capsys):
    document = answer(capsys, "show", "done")
    assert document.keys() == contract("JSON of show RUN")
    assert document["trials"] == {"completed": 4, "failed": 0, "duplicate": 0, "stopped": 0, "running": 0}
    assert document["front"][0].keys() == FRONT_KEYS
    assert main(["show", "results/done"]) == 0
    out = capsys.readouterr().out
    assert "4 completed" in out
    assert "run folder: results/done" in out


def test_show_pages(there, capsys):
    space = answer(capsys, "show", "many.yaml")
    assert space.keys() == contract("JSON of show SPACE")
    assert (space["kind"], space["size"], space["decisions"], space["num_params"]) == ("space", 400, 4, None)
    architecture = answer(capsys, "show", "nasnet_a_cifar", "num_classes=100")
    assert architecture.keys() == contract("JSON of show ARCHITECTURE")
    assert architecture["num_classes"] == 100
    assert architecture["size"] is None
    layers = answer(capsys, "show", "nasnet_a_cifar", "--layers")["layers"]
    assert sum(layer["num_params"] for layer in layers) == answer(capsys, "show", "nasnet_a_cifar")["num_params"]


def test_the_best_page_of_a_run_can_be_shown(there, capsys):
    shown = answer(capsys, "show", "results/done/best.yaml")
    assert shown["num_params"] == answer(capsys, "best", "done")["best"]["num_params"]


def test_best_within_limits(there, capsys):
    document = answer(capsys, "best", "done")
    assert document.keys() == contract("JSON of best")
    assert document["best"].keys() == FRONT_KEYS
    front = answer(capsys, "show", "done")["front"]
    smallest = min(row["num_params"] for row in front)
    within = answer(capsys, "best", "done", f"num_params<={smallest}", "accuracy>=0%")
    assert within["best"]["num_params"] == smallest
    assert within["limits"] == [f"num_params<={smallest}", "accuracy>=0.0"]
    assert answer(capsys, "best", "done", "num_params<=1")["best"] is None
    assert main(["best", "done", "num_params<=1"]) == 0
    assert "no completed network within num_params<=1" in capsys.readouterr().out
    assert main(["best", "done", "latency<=3ms"]) == 2
    assert "did not measure latency" in capsys.readouterr().err


def test_the_answer_measured_again(copy, capsys, monkeypatch):
    """On a machine that may be busy: the measurement itself is what tests/measure is about."""
    def measure(target, graph, wanted, **how):
        asked.append((target, graph.num_params, set(wanted), how["batch"], how["runtime"]))
        latency = SimpleNamespace(median_ms=2.0, low_ms=1.9, high_ms=2.1, device_name="a processor")
        return latency, {"latency": 2.0}

    asked = []
    monkeypatch.setattr("nas.measure.metrics.measure_metrics", measure)
    document = answer(capsys, "best", "done", "--remeasure")
    assert asked == [("cpu", document["best"]["num_params"], {"latency"}, 1, "eager")]
    assert document["again"] == {"target": "cpu", "device": "a processor", "latency_ms": 2.0, "latency_low_ms": 1.9,
                                 "latency_high_ms": 2.1, "broken": []}  # fmt: skip
    assert main(["best", "done", "--remeasure"]) == 0
    assert "on a processor: latency 2 ms (not measured in the search); within every limit" in capsys.readouterr().out
    assert answer(capsys, "best", "done")["again"] is None


def test_a_limit_that_no_longer_holds(finished, monkeypatch):
    monkeypatch.setattr("nas.measure.metrics.measure_metrics", lambda *args, **how: (
        SimpleNamespace(median_ms=2.0, low_ms=1.9, high_ms=2.1, device_name="a processor"), {"latency": 2.0, "memory": 3e6}))
    with open_archive(str(finished / "results" / "done")) as archive:
        record = archive.pick("best")
        again = measured_again(archive, record, (parse_constraint("latency<=1ms"), parse_constraint("memory<=4MB")))
    assert again["broken"] == ["latency<=1ms"]
    said = again_text(again, {"latency_ms": 0.9, "memory": 2e6})
    assert said == ("measured again on a processor: latency 2 ms (0.9 ms in the search), memory 3 MB (2 MB in the search); "
                    "no longer within latency<=1ms")


@pytest.mark.parametrize("target", ["cuda@H200", "resource:pixel"])
def test_what_a_cluster_measured_is_not_measured_again_on_this_machine(finished, target):
    with open_archive(str(finished / "results" / "done")) as archive:
        elsewhere = replace(archive, config=replace(archive.config, engine="ray", target=target))
        with pytest.raises(MeasureError, match=f"no such device.*{target}.*nas measure-server"):
            measured_again(elsewhere, archive.pick("best"), ())


def test_a_page_that_cannot_be_read_says_where(here, capsys):
    Path("bad.yaml").write_text("name: bad\ninput: 1x8x8\nnetwork: [classifier]\n")
    assert main(["show", "bad.yaml"]) == 2
    assert "bad.yaml:2" in capsys.readouterr().err


PAGE = """
name: p
network: [{op: {choice: [conv_bn_act, sep_conv]}, kernel_size: 3, out_channels: 8}, global_avg_pool, classifier]
"""


def test_what_a_format_cannot_express_is_said_before(here, monkeypatch):
    """Each distinct operation is asked for once."""
    def refuse(graphs, name):
        asked.append((name, {call.op for graph in graphs for _, call in graph.calls()}))
        return ["sep_conv"]

    asked, told = [], []
    monkeypatch.setattr("nas.export.formats.inexpressible", refuse)
    Path("p.yaml").write_text(PAGE)
    words = {"space": "p.yaml", "data": "digits", "budget": "1min"}
    foretell(SearchConfig.from_words({**words, "final": "1"}), ("py", "onnx", "pt2"), told.append)
    assert asked == [(name, {"conv_bn_act", "sep_conv", "global_avg_pool", "classifier"}) for name in ("onnx", "pt2")]
    assert told[1] == "note: onnx cannot express sep_conv; networks with such operations are exported without it"
    foretell(SearchConfig.from_words({**words, "final": "1"}), ("py",), told.append)
    assert len(told) == 4
    foretell(SearchConfig.from_words({**words, "formats": "py,onnx", "recipe": "quick"}), ("py", "onnx"), told.append)
    assert [line.partition(" nothing is ")[2] for line in told[4:]] == [
        "exported by formats=py,onnx: add final=1", "trained by recipe=quick: add final=1"]
    assert len(asked) == 2


def test_a_front_has_columns_for_what_the_run_judges_by_alone():
    row = {**DOCUMENT["front"][0], "latency_ms": None, "latency_again_ms": None, "repeats": 0, "ties": []}
    head, _, line = front_table([{**row, "memory": 2500, "accuracy*(macs/1K)^-0.07": 0.857}]).splitlines()
    assert re.split("  +", head) == ["trial", "val", "params", "MACs", "memory", "accuracy*(macs/1K)^-0.07"]
    assert re.split("  +", line.strip())[1:] == ["90.00 %", "1K", "2K", "2.5 kB", "0.857"]


def test_resume_without_anything_left_answers_again(copy, capsys):
    document = answer(capsys, "resume", "done")
    assert document.keys() == KEYS
    assert document["message"] == "the budget of 4trials is spent"
    assert document["trials"]["completed"] == 4
    assert document["best"]["test_accuracy"] is not None


def test_resume_says_what_does_not_fit(copy, capsys):
    for words, says in [(["budget=+1h"], "no such part"), (["budget=soon"], "not a budget"), (["workers=0"], "workers")]:
        assert main(["resume", "done", *words]) == 2
        assert says in capsys.readouterr().err
    (copy / "config.yaml").write_text("nothing: here")
    assert main(["resume", "done"]) == 2
    assert "damaged" in capsys.readouterr().err


def test_export_of_a_run(copy, tmp_path, capsys):
    (network,) = answer(capsys, "export", "done", f"out={tmp_path}/net")["networks"]
    assert Path(network["out"], "network.py").is_file()


def test_export_of_a_front(copy, tmp_path, capsys):
    networks = answer(capsys, "export", "done", "trial=all-front", f"out={tmp_path}/front")["networks"]
    assert {Path(n["out"]).name for n in networks} == {f"trial-{n['trial']}" for n in networks}
    assert len({n["trial"] for n in networks}) == len(networks) > 0


DOCUMENT = {
    "run": "results/my run", "message": "the budget of 3min is spent", "interrupted": False, "wall_s": 200.0,
    "trials": {"completed": 2, "failed": 1, "duplicate": 0, "stopped": 0},
    "budget": [{"asked": 3.0, "spent": 3.2, "unit": "min"}],
    "front": [{"trial": 1, "val_accuracy": 0.9, "test_accuracy": None, "latency_ms": 1.5, "num_params": 1000, "macs": 2000,
               "identity": "x", "latency_again_ms": 1.6, "repeats": 2, "accuracy_mean": 0.88, "accuracy_sd": 0.02, "ties": [7]}],
    "best": {"trial": 1}, "rank_correlation": 0.5, "rank_chance": 0.25,
    "final": [{"trial": 1, "val_accuracy": 0.97, "test_accuracy": 0.96, "epochs": 80, "weights": "fully trained",
               "export": "x/1"}],
}  # fmt: skip


def test_what_a_person_reads_at_the_end():
    said = text(DOCUMENT)
    assert "90.00 %" in said
    assert "1.5 ms" in said
    assert "(0.2min over)" in said
    assert "88.00 +- 2.00 % (n=3)" in said
    assert "best ~ 7" in said
    assert "Kendall 0.50 (n=1; orders drawn at random agree so well in 25.00 % of cases)" in said
    assert "96.00 %" in said
    assert "nas export 'results/my run' trial=best" in said
    assert "nas resume" not in said
    assert "nas resume 'results/my run'" in text({**DOCUMENT, "interrupted": True})
    empty = {**DOCUMENT, "front": [], "best": None}
    assert "no completed candidate is within every limit" in text(empty)
    assert "trials.csv says why" in text({**empty, "trials": {**DOCUMENT["trials"], "completed": 0}})


def test_the_budget_in_words():
    assert spent({"asked": 50.0, "spent": 50.0, "unit": "trials"}) == "50 of 50trials"
    assert spent({"asked": 3.0, "spent": 1.234, "unit": "min"}) == "1.23 of 3min"


def test_the_help_tables_of_the_documentation_are_the_programs():
    from nas.cli import VERBS
    from nas.cli.arguments import help_text

    page = DOCS.read_text()
    for verb in VERBS.values():
        assert f"### nas {verb.name}\n\n```\n{help_text(verb)}\n```\n" in page, "docs/cli.md is behind"
