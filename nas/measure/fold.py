"""Folding batch norms into the convolutions before them, as deployment tools do."""

from __future__ import annotations

import copy
from collections import Counter

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nas.errors import MeasureError

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in evaluation mode, without the batch norms that follow a convolution directly.

    An identity stays in a norm's place. What torch.fx cannot trace (its ``forward`` branches on values, or takes any
    number of inputs) is folded part by part. A convolution that is called twice, or whose output goes elsewhere too, is
    left alone. Raises MeasureError when no part can be traced.
    """
    folded = copy.deepcopy(model).eval()
    if not _fold(folded):
        raise MeasureError("batch norms cannot be folded, torch.fx can trace no part of the network",
                           hint="Measure it without folding.")  # fmt: skip
    return folded


def _fold(module: nn.Module) -> bool:
    """Fold in place; whether the module, or a part of it, could be traced."""
    try:
        traced = fx.symbolic_trace(module)
    except Exception:  # tracing runs the module's own code, which may raise anything
        return sum(_fold(part) for part in module.children() if _has_parts(part)) > 0  # every part, not up to the first
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    for node in traced.graph.nodes:
        if (pair := _foldable(traced, node, calls)) is not None:
            module.set_submodule(node.args[0].target, fuse_conv_bn_eval(*pair))
            module.set_submodule(node.target, nn.Identity())
    return True


def _has_parts(module: nn.Module) -> bool:
    """Whether the module is worth looking into: a container, or not one of torch's own layers."""
    return isinstance(module, CONTAINERS) or type(module) is nn.Module or not fx.Tracer().is_leaf_module(module, "")


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
