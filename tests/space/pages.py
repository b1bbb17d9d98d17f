"""Pages for tests: the bundled ones, and small random ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
BUNDLED = sorted((ROOT / "search_spaces").glob("*.yaml"))
ALL_BUNDLED = sorted((ROOT / "search_spaces").rglob("*.yaml"))

KERNELS = {"choice": [1, 3]}
SHARED_KERNELS = {"choice": [1, 3, 5], "share": "kernel"}
SHARED_BODY = {"choice": {"plain": "relu", "conv": {"op": "conv_bn", "kernel_size": KERNELS}}, "share": "body"}


def kernel_sizes() -> st.SearchStrategy[Any]:
    """A kernel size, or a hole for one."""
    return st.sampled_from([1, 3, KERNELS, SHARED_KERNELS, {"range": [1, 3], "step": 2}])


def nodes() -> st.SearchStrategy[Any]:
    """Nodes that keep a map's shape, with holes at every place where there may be one."""
    leaves = st.one_of(
        st.sampled_from(["relu", "identity", "conv_bn_3x3", SHARED_BODY]),
        kernel_sizes().map(lambda k: {"op": "conv_bn", "kernel_size": k}),
        kernel_sizes().map(lambda k: {"op": {"choice": ["conv_bn", "max_pool"]}, "kernel_size": k}),
    )

    def inside(node: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        times = st.sampled_from([1, 2, {"choice": [0, 2]}, {"range": [1, 2]}])
        return st.one_of(
            st.tuples(node, node).map(lambda pair: {"choice": {"a": pair[0], "b": pair[1]}}),
            st.tuples(node, node).map(lambda pair: {"layers": list(pair)}),
            st.tuples(node, node).map(lambda pair: {"branches": list(pair), "combine": {"choice": ["add", "concat"]},
                                                    "match": "conv_bn_1x1"}),
            st.tuples(times, node).map(lambda pair: {"repeat": pair[0], "layers": [pair[1]]}),
            st.tuples(times, node).map(lambda pair: {"repeat": pair[0], "each": {"layers": [pair[1]]}}),
        )  # fmt: skip

    return st.recursive(leaves, inside, max_leaves=4)


def pages() -> st.SearchStrategy[dict[str, Any]]:
    """Whole pages: a stem, a few layers of which some read earlier ones, a head."""

    def page(drawn: tuple[list[Any], Any]) -> dict[str, Any]:
        layers, sources = drawn
        last = {"op": "add", "from": sources}
        network = ["conv_bn_3x3", *({"name": f"l{i}", "layers": [node]} for i, node in enumerate(layers)), last]
        return {"name": "random", "input": [3, 8, 8], "network": [*network, "global_avg_pool", "classifier"]}

    sources = st.sampled_from([-1, ["l0", {"choice": [-1, "none"]}], {"choice": {"subset": 1, "of": ["x", "l0"]}},
                               {"choice": [["l0", "l0"], ["l0"]]}])  # fmt: skip
    return st.tuples(st.lists(nodes(), min_size=1, max_size=3), sources).map(page)
