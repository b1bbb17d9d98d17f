"""Accuracy and loss of a network on a split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.errors import TrainError
from nas.train.layout import in_format
from nas.train.parallel import ALONE, Group
from nas.train.split import Split

CPU_BATCH = 256
"""Larger batches fall out of a CPU core's cache (NASNet-like net, 32x32: 25 % slower at 256 than at 96 in training)."""
DEVICE_BATCH = 1024


def evaluate(model: nn.Module, split: Split, *, batch_size: int | None = None, amp: str = "float32",
             channels_last: bool = True, group: Group = ALONE) -> tuple[float, float]:  # fmt: skip
    """(accuracy as a fraction, mean cross-entropy) of ``model`` on ``split``, which live on one device.

    The model is used in evaluation mode and left exactly as it was: modes, weights and running statistics. In a
    ``group`` of processes each judges its part, and all get the whole's figures.
    """
    batch_size = batch_size or (CPU_BATCH if split.device.type == "cpu" else DEVICE_BATCH)
    correct = torch.zeros((), device=split.device)
    loss = torch.zeros((), device=split.device)
    with _evaluation_mode(model), torch.inference_mode(), autocast(split.device, amp):
        for images, labels in split.part(group).batches(batch_size):
            logits = main_logits(model(in_format(images, channels_last)), split.num_classes).float()
            correct += (logits.argmax(1) == labels).sum()
            loss += F.cross_entropy(logits, labels, reduction="sum")
    correct, loss = group.sum(torch.stack([correct, loss]))
    return float(correct) / len(split), float(loss) / len(split)


def autocast(device: torch.device, amp: str) -> AbstractContextManager[object]:
    """Autocast to bfloat16, or nothing for float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp == "bfloat16")


def main_logits(outputs: object, num_classes: int) -> Tensor:
    """The class scores of a model's output, which may be (logits, auxiliary logits). TrainError for another shape."""
    logits = outputs[0] if isinstance(outputs, tuple | list) else outputs
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] != num_classes:
        raise TrainError("the network does not return class scores", expected=f"a tensor (N, {num_classes})",
                         got=tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__)  # fmt: skip
    return logits


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
