"""The optimizer that the options name, over the groups that a method trains."""

from typing import Any, Callable, Protocol, Sequence

import torch

from backend.faults import Faults
from backend.optimizers.checks import read_optimizer_args
from backend.optimizers.options import OptimizerOptions


class Group(Protocol):
    """Parameters that share a learning rate, as a method gives them."""

    name: str
    parameters: list[torch.nn.Parameter]
    learning_rate: float


def build_optimizer(options: OptimizerOptions, groups: Sequence[Group]) -> torch.optim.Optimizer:
    """The optimizer; each of its parameter groups carries the name of the group it was made from. Raises Faults."""
    arguments = read_optimizer_args(options)
    parameters = [{"params": group.parameters, "lr": group.learning_rate, "name": group.name} for group in groups]
    try:
        return OPTIMIZERS[options.optimizer_type]()(parameters, lr=options.learning_rate, **arguments)
    except (TypeError, ValueError, RuntimeError) as fault:
        raise Faults(f"optimizer_args: {options.optimizer_type} refuses {' '.join(options.optimizer_args)}: {fault}") from None


def optimizer_label(options: OptimizerOptions, optimizer: torch.optim.Optimizer) -> str:
    """The optimizer's class and arguments as trained files tell them: torch.optim.adamw.AdamW(weight_decay=0.1)."""
    kind = type(optimizer)
    arguments = ",".join(f"{key}={value}" for key, value in read_optimizer_args(options).items())
    return f"{kind.__module__}.{kind.__name__}" + (f"({arguments})" if arguments else "")


def adamw() -> Callable[..., Any]:
    """AdamW (Loshchilov & Hutter 2019)."""
    return torch.optim.AdamW


def adamw_8bit() -> Callable[..., Any]:
    """AdamW with its memory in 8 bits (Dettmers et al. 2022)."""
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit


OPTIMIZERS = {"AdamW": adamw, "AdamW8bit": adamw_8bit}
