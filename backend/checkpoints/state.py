"""Saved states: all that training needs to go on exactly where it was."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping

import torch
from torch import Tensor

from backend.checkpoints.manifest import read_manifest, write_manifest
from backend.checkpoints.weights import save_weights
from backend.faults import Faults
from backend.files import folder_written_whole

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.pt"
SCHEDULE = "schedule.pt"
EXTRAS = "extras.pt"


@dataclass
class State:
    """Training after a number of steps."""

    step: int
    epoch: int
    weights: Mapping[str, Tensor]  # as trained
    optimizer: dict[str, Any]  # its state_dict
    schedule: dict[str, Any]  # its state_dict
    extras: dict[str, Any] = field(default_factory=dict)  # plain values and tensors: averages, a scaler, the data's fingerprint
    settings: dict[str, Any] = field(default_factory=dict)  # the options it belongs to, as JSON can hold them


def save_state(path: Path, state: State) -> None:
    """Write a state as a folder, whole or not at all. Raises Faults where a weight is NaN or infinite."""
    with folder_written_whole(Path(path)) as folder:
        save_weights(folder / WEIGHTS, state.weights, {})
        for name, value in ((OPTIMIZER, state.optimizer), (SCHEDULE, state.schedule), (EXTRAS, state.extras)):
            with open(folder / name, "wb") as file:
                torch.save(value, file)
        write_manifest(folder, state.step, state.epoch, state.settings)


def load_state(path: Path) -> State:
    """Read a state, on the CPU, after checking that every file is what was written. Nothing in it is executed. Raises Faults."""
    from safetensors.torch import load_file

    path = Path(path)
    manifest = read_manifest(path)
    # Copies: load_file maps the file, and Windows removes no state folder of which a file is mapped.
    weights = {name: tensor.clone() for name, tensor in load_file(path / WEIGHTS).items()}
    return State(
        step=manifest["step"], epoch=manifest["epoch"], weights=weights, optimizer=read_tensors(path / OPTIMIZER),
        schedule=read_tensors(path / SCHEDULE), extras=read_tensors(path / EXTRAS), settings=manifest["settings"])


def read_tensors(path: Path) -> dict[str, Any]:
    """What torch.save wrote, plain values and tensors only."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # torch.load raises a dozen kinds, by what the file holds
        first_line = str(fault).strip().split("\n")[0]
        raise Faults(f"resume: {path} cannot be read ({first_line}). Give another state.") from None
