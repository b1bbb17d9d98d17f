"""Folding batch norms into the convolutions before them, as deployment tools do."""

from __future__ import annotations

import copy
from collections import Counter

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nas.errors import MeasureError


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in evaluation mode, without the batch norms that follow a convolution directly.

    A convolution that is called twice, or whose output goes elsewhere too, is left alone.
    Raises MeasureError when torch.fx cannot trace the model (its ``forward`` branches on values).
    """
    try:
        traced = fx.symbolic_trace(copy.deepcopy(model).eval())
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        raise MeasureError(f"batch norms cannot be folded, torch.fx cannot trace the network: {error}",
                           hint="Measure it without folding.") from error  # fmt: skip
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    for node in list(traced.graph.nodes):
        if (pair := _foldable(traced, node, calls)) is not None:
            before = node.args[0]
            traced.set_submodule(before.target, fuse_conv_bn_eval(*pair))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _foldable(traced: fx.GraphModule, node: fx.Node, calls: Counter[object]) -> tuple[nn.Conv2d, nn.BatchNorm2d] | None:
    """The convolution and the batch norm that ``node`` calls after it, when the two can become one."""
    if node.op != "call_module" or not node.args or not isinstance(before := node.args[0], fx.Node):
        return None
    if before.op != "call_module" or len(before.users) > 1 or max(calls[before.target], calls[node.target]) > 1:
        return None
    conv, norm = traced.get_submodule(str(before.target)), traced.get_submodule(str(node.target))
    if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
        return conv, norm
    return None
