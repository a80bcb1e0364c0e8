"""This process among its fellows: device, number formats, and what they add up together."""

import os
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list
from torch import Tensor

from backend.randomness import seed_for
from backend.training.options import TrainingOptions

SMALL_MODEL = 100_000_000  # parameters
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16}
PATIENCE = timedelta(days=1)  # the others wait while the first one draws samples; a process that dies is noticed by the launcher


class Processes:
    """Where this process computes, and how it agrees with the others.

    Gradients are summed once per step, after the last micro-batch, rather than inside backward: so a parameter that one
    process left out (module dropout, padding) still agrees, and N processes take the step that one would take with N times the batch.
    """

    def __init__(self, options: TrainingOptions):
        if options.deterministic:
            # Before the GPU is first used, or the cuBLAS of older builds of torch refuses to multiply. Elsewhere it changes nothing.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # Said outright: Apple's GPU is not built for, and without a GPU several processes would each believe to be alone.
        self.accelerator = Accelerator(
            mixed_precision=options.mixed_precision, cpu=not torch.cuda.is_available(), kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
        self.device = self.accelerator.device
        self.index = self.accelerator.process_index
        self.count = self.accelerator.num_processes
        self.first = self.accelerator.is_main_process
        self.dtype = DTYPES[options.mixed_precision]
        if options.deterministic:
            torch.use_deterministic_algorithms(True)
            torch.backends.cudnn.benchmark = False

    def suit(self, parameters: int) -> None:
        """Compute a small model on one thread of the processor: more gain it a tenth, and cost thirtyfold where others use the cores too."""
        if self.device.type == "cpu" and parameters < SMALL_MODEL:
            torch.set_num_threads(1)

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
