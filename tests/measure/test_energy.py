"""RAPL as files of a folder, as the kernel shows it: this machine's own where it has one."""

import pytest
import torch
from torch import nn

from nas.errors import MeasureError
from nas.measure import energy
from nas.measure.energy import energy_counter, measure_energy

CPU = torch.device("cpu")


def zone(folder, name, joules, span=2**32):
    path = folder / name
    path.mkdir(exist_ok=True)
    (path / "energy_uj").write_text(f"{int(joules * 1e6)}\n")
    (path / "max_energy_range_uj").write_text(f"{span}\n")
    return path


@pytest.fixture
def rapl(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    return tmp_path


def test_packages_are_summed_their_parts_are_not(rapl):
    zone(rapl, "intel-rapl:0", 10)
    zone(rapl, "intel-rapl:1", 20)
    zone(rapl, "intel-rapl:0:0", 5)
    joules = energy_counter(CPU)
    zone(rapl, "intel-rapl:0", 12)
    zone(rapl, "intel-rapl:0:0", 500)
    assert joules() == pytest.approx(2)
    zone(rapl, "intel-rapl:1", 21)
    assert joules() == pytest.approx(3)


def test_a_full_counter_begins_again(rapl):
    zone(rapl, "intel-rapl:0", 0.9, span=999_999)
    joules = energy_counter(CPU)
    zone(rapl, "intel-rapl:0", 0.1, span=999_999)
    assert joules() == pytest.approx(0.2)


def test_where_nothing_counts_the_reason_is_told(rapl, tmp_path):
    with pytest.raises(MeasureError, match=r"energy cannot be measured here: .*RAPL.*Leave the objective energy out"):
        energy_counter(CPU)
    (zone(rapl, "intel-rapl:0", 1) / "energy_uj").unlink()
    with pytest.raises(MeasureError, match=r"energy_uj: energy cannot be measured here: No such file"):
        energy_counter(CPU)


def test_joules_are_of_one_pass(rapl, monkeypatch):
    """A counter that gains 2 J meanwhile, over passes that are counted."""
    monkeypatch.setitem(energy.SECONDS, "cpu", 0.02)
    readings, passes = iter([0.0, 2.0]), []
    monkeypatch.setattr(energy, "energy_counter", lambda device: lambda: next(readings))
    net = nn.Linear(4, 4)
    monkeypatch.setattr(energy.Conditions, "prepare", lambda *words: lambda: passes.append(1))
    used = measure_energy(net, (4,))
    assert 2.0 / len(passes) <= used <= 2.0
    readings = iter([1.0, 1.0])
    with pytest.raises(MeasureError, match="stood still"):
        measure_energy(net, (4,))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_counts():
    pytest.importorskip("pynvml")
    assert measure_energy(nn.Linear(4096, 4096), (4096,), device="cuda", batch=512) > 0


def test_it_ends_when_the_asker_wants_no_more(rapl):
    zone(rapl, "intel-rapl:0", 1)

    def between():
        raise KeyError

    with pytest.raises(KeyError):
        measure_energy(nn.Linear(4, 4), (4,), between=between)
