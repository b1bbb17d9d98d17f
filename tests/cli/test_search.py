"""`nas search`, `show`, `best`, `resume` and `export` on a finished run: documents by contract, and what people read."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from nas.cli import main
from nas.cli.search import spent, text
from tests.search.test_start import FRONT_KEYS, KEYS

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


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


def contract(heading):
    """The keys that docs/cli.md states under a heading."""
    section = DOCS.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE))


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
    "best": {"trial": 1}, "rank_correlation": 0.5,
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
    assert "Kendall 0.50" in said
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
