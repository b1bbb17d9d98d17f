"""What the networks of every bundled space cost: a committed table, for listing spaces should not have to sample them.

``python -m nas.net.costs > search_spaces/costs.csv`` makes it again (a few seconds). A test holds it true.
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from statistics import median_low
from typing import TextIO

from nas.net.lower import lower
from nas.space.library import bundled_spaces, load_space, pages_folder
from nas.space.search_space import SearchSpace

FILE = "costs.csv"
SAMPLES, SEED = 200, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """The smallest, median and largest number of parameters and of multiply-adds (for one image) of some networks.

    The median of an even number is the lower of the two in the middle: a network's own.
    """

    params_min: int
    params_median: int
    params_max: int
    macs_min: int
    macs_median: int
    macs_max: int


def sample_costs(space: SearchSpace, samples: int = SAMPLES, seed: int = SEED) -> Costs:
    """The costs of so many samples, drawn uniformly and one after the other, at the size of the page."""
    rng = random.Random(seed)
    graphs = [lower(space.sample(rng)) for _ in range(samples)]
    params, macs = [graph.num_params for graph in graphs], [graph.macs for graph in graphs]
    return Costs(
        params_min=min(params), params_median=median_low(params), params_max=max(params),
        macs_min=min(macs), macs_median=median_low(macs), macs_max=max(macs),
    )  # fmt: skip


def bundled_costs() -> dict[str, Costs]:
    """The committed table: a bundled space's name -> costs of 200 samples."""
    with (pages_folder() / FILE).open(encoding="utf-8", newline="") as file:
        return {row.pop("space"): Costs(**{word: int(value) for word, value in row.items()}) for row in csv.DictReader(file)}


def write_costs(file: TextIO, names: Iterable[str]) -> None:
    """Write the table of these bundled spaces."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["space", *(f.name for f in fields(Costs))])
    writer.writerows([name, *astuple(sample_costs(load_space(name)))] for name in names)


if __name__ == "__main__":
    write_costs(sys.stdout, bundled_spaces())
