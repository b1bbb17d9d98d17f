"""What a module does to shapes and costs, found by building it on the meta device and letting torch count."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nas.errors import ShapeError, SpaceError
from nas.ops.catalogue import from_wiring
from nas.ops.sketch import Shape, Sketch

if TYPE_CHECKING:
    from torch import nn

_BATCH = 2
"""One sample would hide a module that folds the batch into something else."""


class Measured(NamedTuple):
    """Output shape without the batch, trainable elements, and multiply-adds for one sample."""

    shape: Shape
    num_params: int
    macs: int


def tell(sketch: Sketch, measured: Measured) -> None:
    """Tell a sketch what was measured."""
    sketch.shape, sketch.num_params, sketch.macs = measured


def measure(name: str, module: type[nn.Module], takes: tuple[str, ...], shapes: tuple[Shape, ...],
            words: Mapping[str, Any]) -> Measured:  # fmt: skip
    """What ``module`` makes of inputs of these shapes (without the batch), with these words.

    Multiply-adds are torch's count: convolutions, linear layers, matrix products, attention. Raises ShapeError where the
    module does not run, SpaceError where it cannot be built or returns something else than one tensor a sample.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    arguments = {word: from_wiring(word, Sketch(*shapes)) for word in takes} | dict(words)
    with torch.device("meta"), torch.no_grad():
        try:
            built = module(**arguments).eval()
        except Exception as error:
            raise SpaceError(f"{name} cannot be built: {_said(error)}", got=str(arguments)) from None
        with FlopCounterMode(display=False) as counter:
            try:
                output = built(*(torch.empty(_BATCH, *shape) for shape in shapes))
            except Exception as error:
                raise ShapeError(f"{name} does not run: {_said(error)}", got=f"inputs {', '.join(map(str, shapes))}",
                                 hint="If it cannot run on the meta device, give the operation a sketch.") from None  # fmt: skip
    if not isinstance(output, torch.Tensor) or output.dim() < 2 or output.shape[0] != _BATCH:
        got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise SpaceError(f"{name} returns no tensor of one entry a sample", expected=f"({_BATCH}, ...)", got=got)
    num_params = sum(p.numel() for p in built.parameters())
    return Measured(tuple(output.shape[1:]), num_params, counter.get_total_flops() // (2 * _BATCH))


def _said(error: Exception) -> str:
    """An error in one line, with the line of the innermost code that is not torch's."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if "/torch/" not in f.filename]
    at = f" ({own[-1].filename.rpartition('/')[2]}:{own[-1].lineno})" if own and own[-1].filename != __file__ else ""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}{at}"
