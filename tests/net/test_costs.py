"""The committed table of costs says what sampling says."""

from __future__ import annotations

import io

import pytest

from nas.net.costs import Costs, bundled_costs, sample_costs, write_costs
from nas.net.lower import lower
from nas.space.library import bundled_spaces, pages_folder
from tests.pages import space

QUICK = ["efficientnet", "mobilenet_v3", "mixer"]


def test_every_space_has_costs() -> None:
    assert list(bundled_costs()) == list(bundled_spaces())
    for costs in bundled_costs().values():
        assert 0 < costs.params_min < costs.params_median < costs.params_max
        assert 0 < costs.macs_min < costs.macs_median < costs.macs_max


@pytest.mark.parametrize("name", QUICK)
def test_costs_of_some(name: str) -> None:
    assert bundled_costs()[name] == sample_costs(space(name))


@pytest.mark.parametrize("name", bundled_spaces())
def test_a_few_samples_lie_within(name: str) -> None:
    """The first of the 200 samples; so a space whose networks have grown or shrunk is seen here in most cases."""
    few, all_of_them = sample_costs(space(name), samples=10), bundled_costs()[name]
    assert all_of_them.params_min <= few.params_min
    assert few.params_max <= all_of_them.params_max
    assert all_of_them.macs_min <= few.macs_min
    assert few.macs_max <= all_of_them.macs_max


@pytest.mark.slow
def test_the_table_is_what_the_command_writes() -> None:
    text = io.StringIO()
    write_costs(text, bundled_spaces())
    assert text.getvalue() == (pages_folder() / "costs.csv").read_text(encoding="utf-8")


def test_costs_are_the_graphs() -> None:
    """All architectures of the smallest space at once would be too many: against its two ends, which are known."""
    tabular = space("nas_bench_201")
    ends = [lower(tabular.architecture(dict.fromkeys(tabular.holes, op))) for op in ("none", "nor_conv_3x3")]
    costs: Costs = bundled_costs()["nas_bench_201"]
    assert ends[0].num_params <= costs.params_min
    assert costs.params_max <= ends[1].num_params
    assert costs.macs_max <= ends[1].macs
