"""The exported folder: what is in it, that it proves itself without the package, and that nothing is half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from nas.errors import ExportError
from nas.export import export_folder
from nas.export.batch import Batch
from nas.export.folder import parse_formats
from nas.export.proof import fill
from nas.export.writing import load_source
from nas.net.build import build
from nas.net.lower import lower
from nas.net.render import Head
from nas.space.parse import parse_file, parse_text
from nas.space.search_space import Architecture
from nas.space.spec import Spec

PAGE = """
name: tiny
input: [3, 8, 8]
num_classes: 4
network:
  - {name: stem, op: conv_bn, out_channels: 4}
  - {name: stack, repeat: 2, op: mbconv, out_channels: 4}
  - global_avg_pool
  - classifier
"""
HEAD = Head(title="tiny")


@pytest.fixture
def spec() -> Spec:
    return parse_text(PAGE)


def weights_of(spec: Spec, path: Path) -> Path:
    torch.save(build(lower(Architecture(spec))).state_dict(), path)
    return path


def run_proof(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "test_network.py"], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("trained", [True, False])
def test_the_folder_proves_itself(spec: Spec, tmp_path: Path, trained: bool) -> None:
    weights = weights_of(spec, tmp_path / "w.pt") if trained else None
    exported = export_folder(spec, tmp_path / "out", head=HEAD, metrics={"a": 1}, weights=weights)
    names = {"network.py", "architecture.yaml", "metrics.json", "cell.svg", "requirements.txt", "test_network.py",
             "test_network.pt"}  # fmt: skip
    assert {p.name for p in exported.files} == names | ({"weights.pt"} if trained else set())
    assert not list(tmp_path.glob(".out*"))
    assert parse_file(exported.folder / "architecture.yaml") == spec
    assert json.loads((exported.folder / "metrics.json").read_text()) == {"a": 1, "formats": {}}
    proof = run_proof(exported.folder)
    assert proof.returncode == 0, proof.stderr
    assert "made with" in proof.stdout
    assert "run with" in proof.stdout


def labelled(count: int = 40) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(torch.randn(count, 3, 8, 8, generator=generator), torch.randint(4, (count,), generator=generator))


def test_the_accuracy_on_stored_images_is_proved(spec: Spec, tmp_path: Path) -> None:
    weights = weights_of(spec, tmp_path / "w.pt")
    exported = export_folder(spec, tmp_path / "out", head=HEAD, metrics={}, weights=weights, batch=labelled())
    network = load_source(exported.folder / "network.py").build(pretrained=str(weights)).eval()
    right = int((network(labelled().images).argmax(1) == labelled().labels).sum())
    assert exported.right == (right, 40)
    figures = json.loads((exported.folder / "metrics.json").read_text())
    assert figures["stored_images"] == {"split": "validation", "right": right, "images": 40}
    proof = run_proof(exported.folder)
    assert proof.returncode == 0, proof.stderr
    assert f"right on {right} of 40 images of the validation split, {right} at export" in proof.stdout


def test_one_image_that_changes_sides_fails_unless_it_is_a_tie(spec: Spec, tmp_path: Path) -> None:
    weights = weights_of(spec, tmp_path / "w.pt")
    folder = export_folder(spec, tmp_path / "out", head=HEAD, metrics={}, weights=weights, batch=labelled()).folder
    stored = torch.load(folder / "test_network.pt", weights_only=True)
    with torch.inference_mode():
        output = load_source(folder / "network.py").build(pretrained=str(weights)).eval()(stored["images"])
    first, second = output.topk(2).values.unbind(1)
    surest = int((first - second).argmax())
    stored["right"][surest] = ~stored["right"][surest]
    torch.save(stored, folder / "test_network.pt")
    proof = run_proof(folder)
    assert proof.returncode != 0
    assert "test_same_accuracy" in proof.stderr
    source = (folder / "test_network.py").read_text()
    (folder / "test_network.py").write_text(source.replace("tied = first - second <=", "tied = first - second <= 100 +"))
    assert run_proof(folder).returncode == 0


@pytest.mark.parametrize(("trained", "batch"), [(True, False), (False, True), (True, True)])
def test_the_proof_holds_what_it_tests_alone(spec: Spec, tmp_path: Path, trained: bool, batch: bool) -> None:
    """Without weights, images prove nothing and are not stored."""
    weights = weights_of(spec, tmp_path / "w.pt") if trained else None
    folder = export_folder(spec, tmp_path / "out", head=HEAD, metrics={}, weights=weights,
                           batch=labelled() if batch else None).folder  # fmt: skip
    source = (folder / "test_network.py").read_text()
    assert ("def fill" in source, "weights.pt" in source) == (not trained, trained)
    assert source.count("same_accuracy") == (2 if trained and batch else 0)
    assert ("images" in torch.load(folder / "test_network.pt", weights_only=True)) == (trained and batch)
    compile(source, "test_network.py", "exec")


def test_the_proof_can_fail(spec: Spec, tmp_path: Path) -> None:
    folder = export_folder(spec, tmp_path / "out", head=HEAD, metrics={}).folder
    source = (folder / "network.py").read_text()
    (folder / "network.py").write_text(source.replace("return self.classifier(x)", "return 1.01 * self.classifier(x)"))
    assert run_proof(folder).returncode != 0


def test_trained_weights_are_loaded_by_build(spec: Spec, tmp_path: Path) -> None:
    weights = weights_of(spec, tmp_path / "w.pt")
    folder = export_folder(spec, tmp_path / "out", head=HEAD, metrics={}, weights=weights).folder
    network = load_source(folder / "network.py").build(pretrained=str(folder / "weights.pt"))
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in torch.load(weights, weights_only=True).items())


def test_exporting_again_leaves_nothing_old(spec: Spec, tmp_path: Path) -> None:
    export_folder(spec, tmp_path / "out", head=HEAD, metrics={}, weights=weights_of(spec, tmp_path / "w.pt"))
    (tmp_path / "out" / "__pycache__").mkdir()
    export_folder(spec, tmp_path / "out", head=HEAD, metrics={})
    assert not (tmp_path / "out" / "weights.pt").exists()


def test_other_files_are_left_alone(spec: Spec, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ExportError, match="other files"):
        export_folder(spec, tmp_path, head=HEAD, metrics={})
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_refused_format_leaves_nothing(spec: Spec, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no trained weights"):
        export_folder(spec, tmp_path / "out", head=HEAD, metrics={}, formats=("py", "safetensors"))
    assert not list(tmp_path.iterdir())


def test_weights_of_another_network(spec: Spec, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(ExportError, match="weights cannot be loaded"):
        export_folder(spec, tmp_path / "out", head=HEAD, metrics={}, weights=tmp_path / "w.pt")


def test_formats() -> None:
    assert parse_formats("py,onnx, pt2") == ("py", "onnx", "pt2")
    with pytest.raises(ExportError, match="onnx"):
        parse_formats("onxx")


def test_fixed_weights_are_the_same_in_every_process(spec: Spec) -> None:
    networks = [build(lower(Architecture(spec))) for _ in range(2)]
    for network in networks:
        fill(network)
    first, second = (n.state_dict() for n in networks)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert networks[0].eval()(torch.randn(4, 3, 8, 8)).std() > 0.01


def test_the_page_is_plain_yaml(spec: Spec, tmp_path: Path) -> None:
    folder = export_folder(spec, tmp_path / "out", head=HEAD, metrics={}).folder
    assert yaml.safe_load((folder / "architecture.yaml").read_text())["name"] == "tiny"


def test_safetensors(spec: Spec, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    weights = weights_of(spec, tmp_path / "w.pt")
    exported = export_folder(spec, tmp_path / "out", head=HEAD, metrics={}, weights=weights, formats=("py", "safetensors"))
    stored = torch.load(weights, weights_only=True)
    assert safetensors.load_file(exported.folder / "weights.safetensors").keys() == stored.keys()
