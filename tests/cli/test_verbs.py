"""What a command line answers whatever the verb: exit codes, no traceback, JSON alone on stdout, quick where it must be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from nas.cli import VERBS, main
from nas.cli.arguments import Verb
from tests.cli.driver import environment

S = ["search", "space=many.yaml", "data=tiny.npz", "budget=3trials"]

WRONG = [
    (["serach"], "Did you mean 'search'"), (["nonsense"], "unknown verb"), (["-x"], "unknown verb"),
    (["search"], "no GPU"), (["search", "data=digits", "budget=3min"], "space is missing"),
    (["search", "space=many.yaml", "data=tiny.npz"], "budget is missing"),
    (["search", "space=nasnet_cel", "data=digits", "budget=3min"], "Did you mean 'nasnet_cell'"),
    ([*S, "bugdet=1min"], "Did you mean 'budget'"),
    (["search", "space=none.yaml", "data=digits", "budget=3min"], "no such page"),
    (["search", "space=nasnet_a_cifar", "data=digits", "budget=3min"], "architecture"),
    (["search", "space=tiny.npz", "data=digits", "budget=3min"], "tiny.npz"),
    (["search", "space=nasnet_cell", "budget=100gpuh"], "no GPU"),
    (["search", "space=many.yaml", "data=digits", "budget=100gpuh"], "budget=100cpuh"),
    ([*S[:2], "data=digit", "budget=1min"], "Did you mean 'digits'"),
    ([*S[:2], "data=none.npz", "budget=1min"], "none.npz"), ([*S[:2], "data=.", "budget=1min"], "class"),
    ([*S[:2], "data=many.yaml", "budget=1min"], "not a data set"),
    ([*S[:2], "data=no_such_module:f", "budget=1min"], "no_such_module"), ([*S[:2], "data=bad.npz", "budget=1min"], "bad.npz"),
    ([*S[:3], "budget=3 minutes"], "not a budget"), ([*S, "objectives=speed"], "unknown metric"),
    ([*S, "objectives=accuracy,memry"], "Did you mean 'memory'"),
    ([*S, "constraint=latency<3ms"], "<="), ([*S, "constraint=latency"], "not a limit"),
    ([*S, "strategy=genetic"], "unknown strategy"),
    ([*S, "strategy=randm"], "Did you mean 'random'"), ([*S, "target=phone"], "target=phone"),
    ([*S, "target=cuda"], "no such device"),
    ([*S, "workers=-1"], "workers"),
    ([*S, "epochs=many"], "epochs"), ([*S, "batch_size=0"], "batch_size"), ([*S, "seed=x"], "seed"),
    ([*S, "deploy=repeats=3"], "depth=0.5"),
    ([*S, "proxy=widht=1"], "Did you mean 'width'"), ([*S, "config=none.yaml"], "none.yaml"),
    ([*S, "run=tiny.npz/x"], "cannot be written"),
    ([*S, "run="], "run has no value"), ([*S, "storage=mysql://x"], "database"), ([*S, "storage=nosuch://x"], "database"),
    ([*S, "--jsn"], "Did you mean 'json'"),
    ([*S, "--budget=3min"], "without dashes"), ([*S, "seed=1", "seed=2"], "given twice"), ([*S, "word"], "does not take"),
    (["resume"], "needs RUN"), (["resume", "none"], "no such run"), (["resume", "none", "budget=x"], "no such run"),
    (["resume", "x", "seed=3"], "unknown key"),
    (["best", "none"], "no such run"), (["best"], "needs RUN"), (["show"], "needs WHAT"),
    (["show", "nasnet_cel"], "Did you mean 'nasnet_cell'"),
    (["show", "nasnet_a_cifar", "input=3x32"], "channels x height x width"), (["show", "nasnet_a_cifar", "width=-1"], "width"),
    (["show", "limited.yaml"], "limited.yaml:2: constraints: unknown metric"),
    (["show", "tiny.npz"], "tiny.npz"), (["show", "nasnet_a_cifar", "--svg"], "--svg FILE"),
    (["show", "nasnet_a_cifar", "svg=no/where.svg"], "cannot be written"),
    (["report", "none"], "no such run"), (["report"], "needs RUN"), (["compare", "none"], "needs RUN"),
    (["compare", "none", "none"], "no such run"), (["report", "none", "--serve", "port=x"], "no such run"),
    (["export", "none"], "none"), (["spaces", "x"], "does not take"), (["spaces", "--arch"], "Did you mean 'architectures'"),
    (["ops", "sepconv"], "sep_conv"),
    (["show", "nasnet_cell", "network.stem.stride=[1"], "network.stem.stride cannot be read"),
    (["show", "nasnet_cell", "network.stm.stride=1"], "stm"),
    (["ops", "plugins=~no-such-user/x.py"], "home directory"), (["show", "~no-such-user/x"], "home directory"),
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    from tests.search.runs import write_data, write_page

    base = tmp_path_factory.mktemp("place")
    write_data(base / "tiny.npz")
    write_page(base / "many.yaml")
    (base / "bad.npz").write_bytes(b"PK no archive")
    (base / "limited.yaml").write_text('name: limited\nconstraints: ["num_param<=5M"]\nnetwork: [relu]\n', encoding="utf-8")
    return base


@pytest.mark.parametrize(("argv", "says"), WRONG, ids=lambda value: " ".join(value[:1] + value[-1:]) if isinstance(value,
                                                                                                                   list) else "")
def test_a_wrong_line_gets_one_message_and_exit_code_2(argv, says, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    before = sorted(place.rglob("*"))
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nas: ")
    assert err.count("\n") == 1
    assert says in err
    assert sorted(place.rglob("*")) == before, "something was left behind"


@pytest.mark.parametrize("argv", [["spaces"], ["spaces", "--architectures"], ["ops"], ["ops", "sep_conv"],
                                  ["show", "nasnet_cell"],
                                  ["show", "nasnet_a_cifar", "--layers"], ["show", "many.yaml"]])  # fmt: skip
def test_json_is_the_document_alone(argv, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert main([*argv, "--json"]) == 0
    out, _ = capsys.readouterr()
    document = json.loads(out)
    assert isinstance(document, dict)
    assert main(argv) == 0
    assert capsys.readouterr().out.strip()


def test_what_a_library_prints_is_no_part_of_the_document(monkeypatch, capsys):
    def noisy(arguments):
        print("a library says hello")
        return {"answer": 1}

    monkeypatch.setitem(VERBS, "noisy", Verb(name="noisy", summary="", usage="", example="", run=noisy))
    assert main(["noisy", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"answer": 1}
    assert "hello" in err


def test_an_interrupt_is_told_in_a_word(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setitem(VERBS, "wait", Verb(name="wait", summary="", usage="", example="", run=interrupted))
    assert main(["wait"]) == 130
    assert capsys.readouterr().err == "nas: interrupted\n"


@pytest.fixture
def plain_sigterm():
    """As a process begins; a Ray that was connected in this one has left its own handler, which exits."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("plain_sigterm")
def test_sigterm_is_told_as_ctrl_c(monkeypatch, capsys):
    def terminated(arguments):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setitem(VERBS, "wait", Verb(name="wait", summary="", usage="", example="", run=terminated))
    assert main(["wait"]) == 130
    assert capsys.readouterr().err == "nas: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_file_that_cannot_be_written_is_told_by_its_name(monkeypatch, capsys, tmp_path):
    def writes(arguments):
        (tmp_path / "file").write_text("")
        (tmp_path / "file" / "out.json").write_text("")

    monkeypatch.setitem(VERBS, "write", Verb(name="write", summary="", usage="", example="", run=writes))
    assert main(["write"]) == 2
    assert capsys.readouterr().err == f"nas: {tmp_path}/file/out.json: Not a directory\n"


@pytest.mark.parametrize("argv", [["--help"], ["search", "--help"], ["spaces"], ["spaces", "--json"], ["ops"]])
def test_quick_verbs_import_nothing_heavy(argv):
    code = f"""
import sys
from nas.cli import main
assert main({argv!r}) == 0
heavy = {{"torch", "ray", "optuna", "pandas", "sklearn", "numpy", "rich"}} & sys.modules.keys()
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_closed_pipe_is_no_error():
    done = subprocess.run(f"{sys.executable} -c 'import sys; from nas.cli import main; sys.exit(main())' ops | head -1",
                          shell=True,
                          env=environment(), capture_output=True, text=True)  # fmt: skip
    assert done.stdout.startswith("operation")
    assert done.stderr == ""


@pytest.mark.parametrize("words", [["--svg", "p.svg"], ["--svg=p.svg"], ["svg=p.svg"]])
@pytest.mark.parametrize("what", ["lenet_5", "darts", "results/done"])
def test_show_draws_a_picture(what, words, finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    what = str(finished / what) if "/" in what else what
    assert main(["show", what, *words]) == 0
    assert capsys.readouterr().out.rstrip().endswith("picture: p.svg")
    assert (tmp_path / "p.svg").read_text(encoding="utf-8").startswith("<svg ")


def test_a_report_is_written_into_the_runs_folder_or_where_it_is_asked_for(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = str(finished / "results" / "done")
    assert main(["report", run, "out=pages/r.html", "front=front.svg", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"trials", "front", "hypervolume", "spending", "importance", "environment"} <= set(document)
    assert (tmp_path / "pages" / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (tmp_path / "front.svg").exists()
    assert main(["report", run]) == 0
    assert capsys.readouterr().out == f"written: {run}/report.html\n"


def test_runs_are_compared_in_a_table_and_on_a_page(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = str(finished / "results" / "done")
    assert main(["compare", run, run, "out=c.html"]) == 0
    out = capsys.readouterr().out
    assert out.count("\ndone ") == 2
    assert out.endswith("written: c.html\n")
    assert main(["compare", run, run, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 2
