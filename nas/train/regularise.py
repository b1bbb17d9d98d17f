"""Drop path and dropout while a network is trained; afterwards it is as it was built, and so is what is exported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nas.net.build import Network
from nas.ops.modules.wiring import DropPath

DROP_PROB = "drop_prob"
"""Every module with a float attribute of this name is a drop path, a user's own as well."""


class Regularisation:
    """The drop paths and dropouts of a network, to be set every epoch.

    Two kinds of drop path are told: operations whose outputs are joined within a block of a cell get one (Larsson et al.
    2017; NASNet and DARTS drop them so, what is no operation stays), all with the probability that is set; residual
    branches have their own, and the probability grows from the first to the last of them, as in stochastic depth (Huang et
    al. 2016), EfficientNet and Swin. Where nothing is to be dropped a network keeps its page's own probabilities.
    """

    def __init__(self, model: nn.Module, *, drop_path: bool) -> None:
        modules = list(model.modules())
        paths: list[Any] = [m for m in modules if drop_path and isinstance(getattr(m, DROP_PROB, None), float)]
        self._paths = [(m, getattr(m, DROP_PROB), (i + 1) / len(paths)) for i, m in enumerate(paths)]
        self._dropouts = [(m, m.p) for m in modules if isinstance(m, nn.Dropout)]
        self._on_cells = DropPath()
        self._hooks: list[RemovableHandle] = []
        if drop_path:
            self._hooks = [operation.register_forward_hook(self._drop) for operation in joined_operations(model)]

    def _drop(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if not module.training:
            return output
        dropped: Tensor = self._on_cells(output)
        return dropped

    def set(self, drop_path: float, strength: float) -> None:
        """The probability of the last drop path, and the share of every dropout's own that acts."""
        self._on_cells.drop_prob = drop_path
        for module, _, share in self._paths:
            setattr(module, DROP_PROB, drop_path * share)
        for dropout, own in self._dropouts:
            dropout.p = own * strength

    def remove(self) -> None:
        """Leave the network as it was."""
        for hook in self._hooks:
            hook.remove()
        for module, own, _ in self._paths:
            setattr(module, DROP_PROB, own)
        for dropout, own in self._dropouts:
            dropout.p = own


def joined_operations(model: nn.Module) -> list[nn.Module]:
    """The operations of all cells whose outputs a block of theirs joins: not projections, joins or what passes through."""
    cells = (m for m in model.modules() if isinstance(m, Network) and m is not model)
    return [cell.get_submodule(name) for cell in cells for name in _joined(cell)]


def _joined(cell: Network) -> Iterator[str]:
    """Names such as b0.0, which b0.add reads beside others."""
    inputs = dict(cell.wiring)
    for join, sources in cell.wiring:
        block, _, _ = join.rpartition(".")
        if len(sources) > 1 and block:
            operations = (s for s in dict.fromkeys(sources) if s.startswith(f"{block}.") and len(inputs[s]) == 1)
            yield from (s for s in operations if not isinstance(cell.get_submodule(s), Network))
