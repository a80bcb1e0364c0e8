"""This process among its fellows: device, number formats, and what they add up together."""

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from backend.randomness import seed_for
from backend.training.options import TrainingOptions

DTYPES = {"no": torch.float32, "bf16": torch.bfloat16}


class Processes:
    """Where this process computes, and how it agrees with the others.

    Gradients are summed once per step, after the last micro-batch, rather than inside backward: so a parameter that one
    process left out (module dropout, padding) still agrees, and N processes take the step that one would take with N times the batch.
    """

    def __init__(self, options: TrainingOptions):
        self.accelerator = Accelerator(mixed_precision=options.mixed_precision)
        self.device = self.accelerator.device
        self.index = self.accelerator.process_index
        self.count = self.accelerator.num_processes
        self.first = self.accelerator.is_main_process
        self.dtype = DTYPES[options.mixed_precision]
        if options.deterministic:
            torch.use_deterministic_algorithms(True)
            torch.backends.cudnn.benchmark = False

    def agree(self, value):
        """The first process's value, in all of them."""
        if self.count == 1:
            return value
        box = [value]
        broadcast_object_list(box)
        return box[0]

    def sum_gradients(self, parameters: list[torch.nn.Parameter], figures: Tensor) -> Tensor:
        """Add up every parameter's gradient over the processes, in place, and `figures` (a vector) with them; returns its sum."""
        if self.count == 1:
            return figures
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([figures.float()] + [parameter.grad.flatten().float() for parameter in parameters])
        flat = self.accelerator.reduce(flat, "sum")
        at = len(figures)
        for parameter in parameters:
            size = parameter.numel()
            parameter.grad.copy_(flat[at:at + size].view_as(parameter))
            at += size
        return flat[:len(figures)]

    def wait(self) -> None:
        """Wait until every process is here."""
        self.accelerator.wait_for_everyone()

    def end(self) -> None:
        """Leave the group of processes in good order."""
        self.accelerator.end_training()


def seed_dropout(seed: int, step: int, micro_batch: int, process: int) -> None:
    """Place torch's own generators (dropout in networks draws from them) so that a draw depends on where it happens."""
    torch.manual_seed(seed_for(seed, "dropout", step, micro_batch, process))
