"""A training's checkpoint: one file, replaced atomically, loaded without unpickling code."""

from __future__ import annotations

import glob
import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.errors import CheckpointError, TrainError

START_OVER = "Delete the file to start this training over."


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` beside ``path`` and move it there, so that a kill leaves either the old file or the new one."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, fresh)
        os.replace(fresh, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        with suppress(OSError):
            fresh.unlink()
        raise TrainError("cannot write the checkpoint", where=str(path), got=str(error)) from error


def load_checkpoint(path: Path, *, identity: dict[str, Any], device: torch.device) -> dict[str, Any] | None:
    """The saved state, or None without a file.

    Raises CheckpointError for a file that is damaged, or whose ``identity`` (seed, data, recipe) is another training's.
    """
    for left_by_a_kill in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):
        left_by_a_kill.unlink(missing_ok=True)
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError("the checkpoint is damaged", where=str(path), got=str(error).split("\n")[0],
                              hint=START_OVER) from error  # fmt: skip
    saved = state.get("identity") if isinstance(state, dict) else None
    if not isinstance(saved, dict):
        raise CheckpointError("not a checkpoint of a training", where=str(path), hint=START_OVER)
    for name, value in identity.items():
        if saved.get(name) != value:
            raise CheckpointError(f"the checkpoint was made with another {name}", where=str(path), expected=str(value),
                                  got=str(saved.get(name)), hint=START_OVER)  # fmt: skip
    return dict(state)


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's weights, on the CPU and in their plain format: all of the file or nothing of it."""
    save_checkpoint(path, {name: value.cpu().contiguous() for name, value in network.state_dict().items()})


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a network's weights. Raises TrainError when the file is missing, damaged, or another network's."""
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise TrainError("the weights cannot be loaded", where=str(path), got=str(error).split("\n")[0]) from error
