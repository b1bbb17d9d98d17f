"""Spaces that the tests of this room search."""

from functools import cache
from pathlib import Path

from nas.space.parse import parse_file, parse_text
from nas.space.search_space import SearchSpace

PAGES = Path(__file__).parents[2] / "search_spaces"

CONDITIONAL = """
name: conditional
network:
  - {name: stem, op: conv_bn, kernel_size: 3, out_channels: {range: [8, 32], step: 8}}
  - name: body
    choice:
      plain: {op: relu_conv_bn, kernel_size: {choice: [1, 3, 5], share: kernel}}
      deep:
        repeat: {choice: [1, 2]}
        each: {op: sep_conv, kernel_size: {choice: [3, 5]}}
      mobile: {op: mbconv, expansion: {range: [1, 6]}, kernel_size: {choice: [3, 5]}, se_ratio: {range: [0.0, 0.5]}}
  - {name: tail, op: relu_conv_bn, kernel_size: {choice: [1, 3, 5], share: kernel}}
  - {name: only, op: relu_conv_bn, kernel_size: {choice: [3]}}
  - global_avg_pool
  - classifier
"""
"""Decisions under options, a shared one, a single option, whole and continuous ranges."""


@cache
def space(name: str) -> SearchSpace:
    if name == "conditional":
        return SearchSpace(parse_text(CONDITIONAL))
    return SearchSpace(parse_file(PAGES / f"{name}.yaml"))


SPACES = ("nasnet_cell", "efficientnet", "conditional")
