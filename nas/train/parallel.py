"""One training in several processes, as ``torchrun`` starts them: each takes its part of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from nas.errors import TrainError


@dataclass(frozen=True, slots=True)
class Group:
    """The processes of a training; this one is number ``rank`` of ``size``. One alone needs no torch.distributed."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def wrap(self, model: nn.Module, *, unused: bool) -> nn.Module:
        """The model with its gradients averaged over the group; ``unused``: some weights take no part in the loss."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, find_unused_parameters=unused)

    def sum(self, values: Tensor) -> Tensor:
        """The values added over all processes, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def any(self, said: bool, device: torch.device) -> bool:
        """Whether any process says so."""
        return bool(self.sum(torch.tensor(float(said), device=device))) if self.size > 1 else said

    def share_buffers(self, model: nn.Module) -> None:
        """Everyone takes the first process's running statistics; batch norm counts each part of a batch for itself."""
        if self.size > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)

    def part(self, indices: Tensor) -> Tensor:
        """This process's part of indices (n,)."""
        return indices if self.size == 1 else indices.tensor_split(self.size)[self.rank]


ALONE = Group()


@contextmanager
def join_group(device: str) -> Iterator[Group]:
    """The group that ``torchrun`` has started this process in, for the length of the block: nccl on GPUs, gloo on CPUs.

    Raises TrainError when the group cannot be formed. Without ``torchrun`` it is this process alone.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    try:
        if torch.device(device).type == "cuda":
            torch.cuda.set_device(torch.device(device))
        distributed.init_process_group("gloo" if torch.device(device).type == "cpu" else "nccl")
    except (RuntimeError, ValueError) as error:
        raise TrainError("the processes cannot form a group", got=str(error).splitlines()[0],
                         hint="Start them by torchrun --nproc_per_node=N -m nas train ...") from error  # fmt: skip
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def local_device(device: str) -> str:
    """``cuda`` as the GPU of this process under ``torchrun``; any other device as it is."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device
