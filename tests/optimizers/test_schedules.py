"""Each learning-rate schedule against its formula, over whole runs."""

import math

import pytest
import torch

from backend.optimizers.options import OptimizerOptions, read_share
from backend.optimizers.schedules import build_schedule, warmup_steps

TOTAL, WARMUP = 20, 4


def progress(step):
    """How far a step is from the end of the warm-up to the end."""
    return (step - WARMUP) / (TOTAL - WARMUP)


FORMULAS = {
    "constant_with_warmup": lambda step: 1.0,
    "linear": lambda step: 1 - progress(step),
    "cosine": lambda step: 0.5 * (1 + math.cos(math.pi * progress(step))),
    "cosine_with_restarts": lambda step: 0.5 * (1 + math.cos(math.pi * (3 * progress(step) % 1))),
    # From the learning rate 0.01 down to 1e-7.
    "polynomial": lambda step: ((0.01 - 1e-7) * (1 - progress(step)) ** 2.5 + 1e-7) / 0.01,
}


def curve(options, steps=TOTAL):
    """The learning rates of two groups (0.01 and 0.003) at each step of the optimizer."""
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.AdamW([{"params": weights[:1], "lr": 0.01}, {"params": weights[1:], "lr": 0.003}], lr=options.learning_rate)
    schedule = build_schedule(options, optimizer, TOTAL)
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("name", FORMULAS)
def test_a_schedule_follows_its_formula_in_every_group(name):
    options = OptimizerOptions(
        lr_scheduler=name, lr_warmup_steps=WARMUP, lr_scheduler_num_cycles=3, lr_scheduler_power=2.5, learning_rate=0.01)
    for step, rates in enumerate(curve(options)):
        factor = step / WARMUP if step < WARMUP else FORMULAS[name](step)
        assert rates == pytest.approx([0.01 * factor, 0.003 * factor], rel=1e-6), step


def test_constant_stays():
    assert curve(OptimizerOptions(lr_scheduler="constant")) == [[0.01, 0.003]] * TOTAL


def test_without_warmup_the_first_step_has_the_full_learning_rate():
    for name in ("linear", "cosine", "constant_with_warmup"):
        assert curve(OptimizerOptions(lr_scheduler=name), steps=1) == [[0.01, 0.003]]


@pytest.mark.parametrize("written,steps", [(0, 0), (7, 7), (0.25, 50), ("10%", 20), (0.999, 199)])
def test_a_share_of_warmup_counts_all_steps(written, steps):
    assert warmup_steps(OptimizerOptions(lr_warmup_steps=read_share(written)), 200) == steps
