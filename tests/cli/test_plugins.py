"""`plugins=`: a user's own operation searched, read, exported; and no run or page that loads it by itself."""

from __future__ import annotations

import json
import random
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nas.cli import main
from nas.cli.search import expressible, foretell
from nas.net.lower import lower
from nas.search.config import SearchConfig
from nas.space.library import load_space
from tests.cli.driver import environment, nas
from tests.ops.plugins import MY_OPS, tables_restored
from tests.search.runs import write_data

PAGE = """
name: mine
input: [1, 8, 8]
network:
  - choice:
      mine: {op: "my_ops.py:SqueezedConv", kernel_size: {choice: [1, 3]}, out_channels: 4}
      wide: {op: squeezed_conv, kernel_size: 5, out_channels: 4}
  - global_avg_pool
  - classifier
"""


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plugin, a page and a finished run `results/done` of it."""
    base = tmp_path_factory.mktemp("plugins")
    write_data(base / "tiny.npz")
    (base / "my_ops.py").write_text(MY_OPS)
    (base / "mine.yaml").write_text(PAGE)
    done = nas("search", "space=mine.yaml", "data=tiny.npz", "budget=2trials", "run=done", "workers=1", "epochs=1", "seed=1",
               "objectives=accuracy,num_params", "plugins=my_ops.py", "--json", cwd=base)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trials"]["completed"] == 2
    return base


@pytest.fixture
def there(searched: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(searched)
    with tables_restored():
        yield searched


def test_the_run_remembers_its_plugin(there: Path) -> None:
    config = yaml.safe_load((there / "results" / "done" / "config.yaml").read_text())
    assert config["plugins"] == [str(there / "my_ops.py")]


@pytest.mark.parametrize("verb", ["show", "best", "export", "resume"])
def test_a_run_alone_loads_nothing(verb: str, there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "done"]) == 2
    assert f"Add plugins={there / 'my_ops.py'} to the command line" in capsys.readouterr().err


def test_a_configuration_file_alone_loads_nothing(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "config=results/done/config.yaml", "run=other"]) == 2
    assert "a configuration file alone runs no code" in capsys.readouterr().err


def test_a_page_alone_loads_nothing(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "mine.yaml"]) == 2
    assert "Add plugins=my_ops.py to the command line" in capsys.readouterr().err


@pytest.mark.parametrize(("line", "says"), [
    (["show", "mine.yaml"], "network.choice=mine.kernel_size"), (["show", "done"], "2 completed"), (["best", "done"], "trial "),
    (["ops", "squeezed_conv"], "A 1x1 convolution to half"),
])  # fmt: skip
def test_with_the_plugin_it_is_read(line: list[str], says: str, there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*line, "plugins=my_ops.py"]) == 0
    assert says in capsys.readouterr().out


def test_the_export_needs_neither_nas_nor_the_plugin(there: Path, tmp_path: Path) -> None:
    assert main(["export", "done", f"out={tmp_path / 'net'}", "plugins=my_ops.py"]) == 0
    text = (tmp_path / "net" / "network.py").read_text()
    assert "class SqueezedConv" in text
    assert "import nas" not in text
    code = "import torch, network; assert network.build()(torch.zeros(2, 1, 8, 8)).shape == (2, 3)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "net", env=environment(), check=False).returncode == 0


def test_it_is_measured_with_the_plugin_alone(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "done", "threads=x"]) == 2
    assert "Add plugins=" in capsys.readouterr().err
    assert main(["measure", "done", "threads=x", "plugins=my_ops.py"]) == 2, "what comes after the network is known"
    assert "threads is a whole number" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["best", "resume"])
def test_the_next_step_works_as_printed(verb: str, there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "done", "plugins=my_ops.py"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("export:"))
    printed = shlex.split(line.removeprefix("export:"))
    assert f"plugins={there / 'my_ops.py'}" in printed
    done = nas(*printed[1:], f"out=printed-{verb}", cwd=there)
    assert done.returncode == 0, done.stderr
    head = " ".join((there / f"printed-{verb}" / "network.py").read_text().partition("from __future__")[0].split())
    assert f"plugins={there / 'my_ops.py'}" in head.partition("Made with: ")[2]


@pytest.fixture
def moved(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another folder with the same files, and a copy of the run."""
    for file in ("tiny.npz", "mine.yaml", "my_ops.py"):
        shutil.copy(searched / file, tmp_path)
    shutil.copytree(searched / "results" / "done", tmp_path / "results" / "done")
    monkeypatch.chdir(tmp_path)
    with tables_restored():
        yield tmp_path


def test_a_run_goes_on_with_its_plugin_where_it_lies_now(moved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", "done", "plugins=my_ops.py"]) == 0
    assert f"plugins={moved / 'my_ops.py'}" in capsys.readouterr().out
    config = yaml.safe_load((moved / "results" / "done" / "config.yaml").read_text())
    assert config["plugins"] == [str(moved / "my_ops.py")]
    assert list(config["resolved"]["digests"]) == config["plugins"]


@pytest.mark.parametrize("verb", ["show", "resume"])
def test_a_plugin_that_has_changed_is_refused(verb: str, moved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (moved / "my_ops.py").open("a") as file:
        file.write("WIDER = 2\n")
    assert main([verb, "done", "plugins=my_ops.py"]) == 2
    assert "my_ops.py: the plugin is not what this run began with. Restore the file" in capsys.readouterr().err


BESSEL = '''
import torch
from torch import Tensor, nn

import nas


@nas.op("bessel")
class Bessel(nn.Module):
    """What ONNX has no operation for."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)
'''


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_a_format_cannot_express_is_said_before_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    Path("odd.py").write_text(BESSEL)
    Path("odd.yaml").write_text("{name: odd, input: [1, 8, 8], network: [{op: {choice: [bessel, identity]}}, "
                                "{op: conv_bn, out_channels: 4}, global_avg_pool, classifier]}")  # fmt: skip
    words = {"space": "odd.yaml", "data": "digits", "budget": "1min", "final": "1", "plugins": "odd.py"}
    told: list[str] = []
    with tables_restored():
        foretell(SearchConfig.from_words(words), ("py", "onnx", "pt2"), told.append)
        space = load_space("odd.yaml")
        graphs = [lower(space.sample(random.Random(seed))) for seed in range(8)]
        odd = next(graph for graph in graphs if "bessel" in {call.op for _, call in graph.calls()})
        assert expressible(odd, ("py", "onnx", "pt2")) == ("py", "pt2")
    assert told == ["trying the space's operations in onnx",
                    "note: onnx cannot express bessel; networks with such operations are exported without it",
                    "trying the space's operations in pt2"]  # fmt: skip
