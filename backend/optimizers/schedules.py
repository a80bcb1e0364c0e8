"""How learning rates change over the run. One step of a schedule is one step of the optimizer, on however many processes."""

import torch
from torch.optim.lr_scheduler import LRScheduler

from backend.optimizers.options import OptimizerOptions


def build_schedule(options: OptimizerOptions, optimizer: torch.optim.Optimizer, total_steps: int) -> LRScheduler:
    """The schedule over total_steps: every parameter group's own learning rate is scaled by the same curve."""
    from transformers import get_scheduler

    own = {
        "cosine_with_restarts": {"num_cycles": options.lr_scheduler_num_cycles},
        "polynomial": {"power": options.lr_scheduler_power},
    }
    return get_scheduler(options.lr_scheduler, optimizer, num_warmup_steps=warmup_steps(options, total_steps), num_training_steps=total_steps,
                         scheduler_specific_kwargs=own.get(options.lr_scheduler, {}))


def warmup_steps(options: OptimizerOptions, total_steps: int) -> int:
    """Steps of the warm-up. A float is a share of all steps, an int is steps."""
    written = options.lr_warmup_steps
    return int(written * total_steps) if isinstance(written, float) else written


def follow(schedule: LRScheduler) -> None:
    """Set the learning rates to where the schedule stands, which its optimizer may remember otherwise: a resumed run may be longer than it was."""
    for group, start, factor in zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas):
        group["lr"] = start * factor(schedule.last_epoch)
    schedule._last_lr = [group["lr"] for group in schedule.optimizer.param_groups]
